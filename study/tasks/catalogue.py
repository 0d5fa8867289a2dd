"""Catalogue of tasks: BLURB, GLUE, SQuAD, CIFAR, and those that are bundled.

`TERMS`, `SQUAD_SENTENCES`, `WIKIPEDIA_TEXT` and `FACTS` are bundled; the others may not be
redistributed, or only by some. Some of GLUE are read from the Hugging Face hub. The rows of all
others are read from the study's `data` folder or `STUDY_DATA`: one folder per task with `train`,
`dev` and `test` as `.jsonl.gz`, which `study import-blurb` creates from BLURB's data.
"""

from typing import Any

from study.tasks.task import Task

Size = tuple[int, int, int, int]  # rows of train, dev and test, and words per row


def _task(name: str, **fields: Any) -> Task:
    files = {split: f"{name}/{split}.jsonl.gz" for split in ("train", "dev", "test")}
    source = fields.pop("source")
    how = f"Not bundled. Write its rows as {name}/SPLIT.jsonl.gz and set STUDY_DATA to the folder "
    how += f"that contains {name}; docs/tasks.md has the format and the sources."
    return Task(name=name, source=f"{source} {how}", **files, **fields)


def _entities(name: str, entity: str, published: Size, source: str) -> Task:
    return _task(
        name,
        published=published,
        kind="tagging",
        metric="entity_f1",
        text="tokens",
        label="tags",
        labels=("O", f"B-{entity}", f"I-{entity}"),
        task_type="NER",
        source=source,
    )


def _relation(name: str, labels: tuple[str, ...], published: Size, source: str) -> Task:
    return _task(
        name,
        published=published,
        metric="micro_f1_excl_negative",
        labels=labels,
        task_type="relation extraction",
        source=source,
    )


TERMS = Task(
    name="terms",
    train="bundled:terms/train.jsonl.gz",
    dev="bundled:terms/dev.jsonl.gz",
    test="bundled:terms/test.jsonl.gz",
    text_pair="text_pair",
    labels=("different", "same"),
    source="Biomedical term pairs curated in biomappings 0.6.0, CC0-1.0; see study/bundled/terms.",
)

_ANSWERS = "bundled:answers"

SQUAD_SENTENCES = Task(
    name="squad_sentences",
    kind="generation",
    metric="token_f1",
    **{split: f"{_ANSWERS}/{split}.jsonl.gz" for split in ("train", "dev", "test")},
    source="Short questions to a sentence of SQuAD 2.0, CC BY-SA 4.0; see study/bundled/answers.",
)
WIKIPEDIA_TEXT = Task(
    name="wikipedia_text",
    kind="generation",
    metric="perplexity",
    end=False,
    test=f"{_ANSWERS}/wikipedia.jsonl.gz",
    source="Paragraphs of SQuAD 2.0, CC BY-SA 4.0, to measure only; see study/bundled/answers.",
)
FACTS = Task(
    name="facts",
    kind="generation",
    metric="exact_match",
    end=False,
    test=f"{_ANSWERS}/facts.jsonl",
    source="What most people know, a word each, CC0, to measure only; see study/bundled/answers.",
)

# --- BLURB (Gu et al. 2021, arXiv 2007.15779) ---------------------------------------------------
# Published sizes are counted in rows; those of NCBI, EBM PICO and BioASQ are estimates.

BC5_CHEM = _entities(
    "bc5_chem",
    "Chemical",
    (4560, 4581, 4797, 26),
    "Chemical mentions (Li et al. 2016, BioCreative V CDR; split of Crichton et al. 2017).",
)
BC5_DISEASE = _entities(
    "bc5_disease",
    "Disease",
    (4560, 4581, 4797, 26),
    "Disease mentions (Li et al. 2016, BioCreative V CDR; split of Crichton et al. 2017).",
)
NCBI_DISEASE = _entities(
    "ncbi_disease",
    "Disease",
    (5424, 923, 940, 25),
    "Disease mentions (Dogan et al. 2014, NCBI disease corpus).",
)
BC2GM = _entities(
    "bc2gm", "Gene", (12_574, 2519, 5038, 28), "Gene mentions (Smith et al. 2008, BioCreative II)."
)
JNLPBA = _entities(
    "jnlpba",
    "Entity",
    (16_807, 1739, 3856, 26),
    "Biomedical mentions, five classes merged to one (Collier & Kim 2004, JNLPBA).",
)
EBM_PICO = _task(
    "ebm_pico",
    kind="tagging",
    metric="word_macro_f1",
    text="tokens",
    label="tags",
    labels=("O", "B-PAR", "I-PAR", "B-INT", "I-INT", "B-OUT", "I-OUT"),
    published=(40_800, 9700, 2076, 25),
    task_type="PICO",
    source="Participants, interventions and outcomes of trials (Nye et al. 2018, EBM-NLP).",
)
CHEMPROT = _relation(
    "chemprot",
    ("false", "CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"),
    (18_035, 11_268, 15_745, 31),
    "Chemical-protein relations (Krallinger et al. 2017, BioCreative VI).",
)
DDI = _relation(
    "ddi",
    ("DDI-false", "DDI-advise", "DDI-effect", "DDI-int", "DDI-mechanism"),
    (25_296, 2496, 5716, 35),
    "Drug-drug interactions (Herrero-Zazo et al. 2013).",
)
GAD = _relation(
    "gad", ("0", "1"), (4261, 535, 534, 26), "Gene-disease associations (Bravo et al. 2015)."
)
BIOSSES = Task(
    name="biosses",
    kind="regression",
    metric="pearson",
    train="biosses/train.jsonl.gz",
    dev="biosses/dev.jsonl.gz",
    test="biosses/test.jsonl.gz",
    text_pair="text_pair",
    published=(64, 16, 20, 46),
    task_type="sentence similarity",
    source=(
        "Sentence similarity (Sogancioglu et al. 2017), licence not stated, so not bundled. Get "
        "BLURB's split (Gu et al. 2021; 64, 16 and 20 rows of id, text, text_pair, label), write "
        "each as biosses/SPLIT.jsonl.gz, and set STUDY_DATA to the folder that contains biosses."
    ),
)
HOC = _task(
    "hoc",
    kind="multilabel",
    metric="micro_f1",
    label="labels",
    labels=(
        "activating invasion and metastasis",
        "avoiding immune destruction",
        "cellular energetics",
        "enabling replicative immortality",
        "evading growth suppressors",
        "genomic instability and mutation",
        "inducing angiogenesis",
        "resisting cell death",
        "sustaining proliferative signaling",
        "tumor promoting inflammation",
    ),
    published=(1295, 186, 371, 241),
    task_type="document classification",
    source="Hallmarks of cancer of whole abstracts (Baker et al. 2016).",
)
PUBMEDQA = _task(
    "pubmedqa",
    text_pair="text_pair",
    truncate="only_second",
    labels=("yes", "no", "maybe"),
    published=(450, 50, 500, 211),
    task_type="question answering",
    source="Questions and abstracts without their conclusion (Jin et al. 2019), MIT.",
)
BIOASQ = _task(
    "bioasq",
    text_pair="text_pair",
    truncate="only_second",
    labels=("yes", "no"),
    published=(670, 75, 140, 330),
    task_type="question answering",
    source="Questions and snippets (BioASQ 7b, yes/no; registration at bioasq.org).",
)

BLURB: tuple[Task, ...] = (
    BC5_CHEM,
    BC5_DISEASE,
    NCBI_DISEASE,
    BC2GM,
    JNLPBA,
    EBM_PICO,
    CHEMPROT,
    DDI,
    GAD,
    BIOSSES,
    HOC,
    PUBMEDQA,
    BIOASQ,
)

# --- GLUE (Wang et al. 2019), SQuAD, CIFAR ------------------------------------------------------

COLA = _task(
    "glue_cola",
    metric="matthews_corrcoef",
    labels=("unacceptable", "acceptable"),
    source="Acceptability (Warstadt et al. 2019); GLUE's dev is test here, dev is cut from train.",
)
SST2 = _task(
    "glue_sst2",
    labels=("negative", "positive"),
    source="Sentiment (Socher et al. 2013); GLUE's dev is test here, dev is cut from train.",
)
STSB = _task(
    "glue_stsb",
    kind="regression",
    metric="pearson",
    text_pair="text_pair",
    source="Similarity (Cer et al. 2017); GLUE's dev is test here, dev is cut from train.",
)


def _pairs(
    name: str,
    columns: tuple[str, str],
    labels: tuple[str, ...],
    published: Size,
    *,
    source: str,
    metric: str = "accuracy",
    config: str = "",
    validation: str = "validation",
) -> Task:
    """A task of GLUE on the hub: the last tenth of train is dev, and GLUE's dev is test."""
    rows = f"hf:nyu-mll/glue/{config or name}"
    return Task(
        name=f"glue_{name}",
        metric=metric,
        train=f"{rows}:train[:90%]",
        dev=f"{rows}:train[90%:]",
        test=f"{rows}:{validation}",
        text=columns[0],
        text_pair=columns[1],
        labels=labels,
        published=published,
        source=f"{source}; GLUE's dev is test here, dev is the last tenth of train.",
    )


# Published sizes are counted in rows; words per row are estimates.
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")

RTE = _pairs(
    "rte",
    ("sentence1", "sentence2"),
    _ENTAILMENT,
    (2241, 249, 277, 53),
    source="Textual entailment (Dagan et al. 2005 and later challenges)",
)
MRPC = _pairs(
    "mrpc",
    ("sentence1", "sentence2"),
    ("not_equivalent", "equivalent"),
    (3301, 367, 408, 44),
    metric="f1",
    source="Paraphrases in the news (Dolan & Brockett 2005)",
)
QNLI = _pairs(
    "qnli",
    ("question", "sentence"),
    _ENTAILMENT,
    (94_269, 10_474, 5463, 37),
    source="Does a sentence answer a question (Wang et al. 2019, from SQuAD)",
)
QQP = _pairs(
    "qqp",
    ("question1", "question2"),
    ("not_duplicate", "duplicate"),
    (327_461, 36_385, 40_430, 22),
    metric="f1",
    source="Duplicate questions (Quora Question Pairs)",
)
MNLI = _pairs(
    "mnli",
    ("premise", "hypothesis"),
    _NLI,
    (353_432, 39_270, 9815, 30),
    validation="validation_matched",
    source="Inference, test in the genres of train (Williams et al. 2018)",
)
MNLI_MISMATCHED = _pairs(
    "mnli_mismatched",
    ("premise", "hypothesis"),
    _NLI,
    (353_432, 39_270, 9832, 30),
    config="mnli",
    validation="validation_mismatched",
    source="Inference, test in other genres than train (Williams et al. 2018)",
)
WNLI = _pairs(
    "wnli",
    ("sentence1", "sentence2"),
    ("not_entailment", "entailment"),
    (572, 63, 71, 28),
    source="Pronouns (Levesque et al. 2012), adversarial: few models beat a constant answer",
)
# Without task types, since GLUE's score is the unweighted mean over its tasks.
GLUE: tuple[Task, ...] = (COLA, SST2, MRPC, STSB, QQP, MNLI, QNLI, RTE, WNLI)

SQUAD2 = _task(
    "squad2",
    kind="span",
    metric="squad_f1",
    text="question",
    text_pair="context",
    label="answers",
    task_type="question answering",
    source="Answers in a paragraph, or none (Rajpurkar et al. 2018), CC BY-SA 4.0.",
)
CIFAR10_SMALL = _task(
    "cifar10_small",
    kind="image",
    text="image",
    labels=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    task_type="image classification",
    source="Ten classes of small pictures (Krizhevsky 2009), 2,000 for training.",
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(TERMS, *BLURB, *GLUE, MNLI_MISMATCHED, SQUAD2, CIFAR10_SMALL),
        *(SQUAD_SENTENCES, WIKIPEDIA_TEXT, FACTS),
    )
}
