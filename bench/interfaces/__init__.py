"""The contracts of the plug-in API. A domain, a method or a metric is one class that keeps one of these.

A domain's author writes three classes: a `Domain`, its `Generator`, and one `Evaluator` for each role. The
members that come first in each class are required. The optional ones are in small mix-in classes, which
`domain_parts` and `generator_parts` hold; all have defaults. This package imports nothing else of the
project but its errors. Import the contracts from here, and not from the modules below.

How the contracts meet, for one cell (`bench/runner/run_cell.py`):

    generator = domain.open(spec, device, settings)           # the network, with its frozen companions
    compressed = method(none(generator.network), context)     # what to store for each tensor
    network = rebuild(artifact, generator)                    # from the file's bytes alone
    samples = generator.sample(network, n, seed)              # native samples: texts, images, points ...
    features = evaluator.features(samples)                    # [n, d]: what the metrics look at
"""

from bench.interfaces.domain import Domain
from bench.interfaces.domain_parts import (
    DescribesSamples,
    HasKinds,
    HasMetrics,
    HasOptionalEvaluators,
    HasTask,
    TakesConditions,
    Trainable,
)
from bench.interfaces.evaluator import (
    Damage,
    Evaluator,
    EvaluatorEntry,
    Features,
    Hurts,
    Role,
    SampleFeatures,
    Task,
    Use,
)
from bench.interfaces.generator import Generator
from bench.interfaces.generator_parts import (
    Exportable,
    HasAuxiliaryScores,
    HasCalibration,
    HasConditions,
    HasExport,
    HasIdentity,
    HasLikelihood,
    HasTraining,
)
from bench.interfaces.method import Context, Method
from bench.interfaces.metric import Direction, Metric
from bench.interfaces.models import (
    SIZES,
    TRAINED,
    TRAINED_ON,
    ConditionKind,
    Conditions,
    ModelSpec,
    outside_of_its_size,
)
from bench.interfaces.shared import Samples
from bench.interfaces.storage import Compressed, Layout, StoredTensor, StructureEdit
from bench.interfaces.training import Training, TrainingRecipe, Wrap

__all__ = [  # noqa: RUF022 - in the order of the reference page
    "Domain",
    "Trainable",
    "DescribesSamples",
    "HasMetrics",
    "HasTask",
    "HasOptionalEvaluators",
    "HasKinds",
    "TakesConditions",
    "ModelSpec",
    "Conditions",
    "ConditionKind",
    "SIZES",
    "outside_of_its_size",
    "TRAINED",
    "TRAINED_ON",
    "Generator",
    "HasLikelihood",
    "HasAuxiliaryScores",
    "HasCalibration",
    "HasExport",
    "Exportable",
    "HasTraining",
    "HasIdentity",
    "HasConditions",
    "Samples",
    "Training",
    "TrainingRecipe",
    "Wrap",
    "Evaluator",
    "EvaluatorEntry",
    "Role",
    "Use",
    "Features",
    "SampleFeatures",
    "Damage",
    "Hurts",
    "Task",
    "Metric",
    "Direction",
    "Method",
    "Context",
    "Compressed",
    "StoredTensor",
    "Layout",
    "StructureEdit",
    "Native",
    "Observed",
    "View",
    "Stored",
    "Edit",
]

# The names of version 0.1's first drafts, for plug-ins that still import them.
Native, Observed, View, Stored, Edit = Samples, SampleFeatures, Features, StoredTensor, StructureEdit
