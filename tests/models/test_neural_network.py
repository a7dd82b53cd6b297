"""The neural network: how rows enter, and that JAX stays out of the way."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from feature_store.definitions.schema import UNSEEN
from models.errors import ArtifactError
from models.network.encoding import Encoding
from models.tabular_model import read_arrays


def bins_of(encoding, schema, name):
    chosen = encoding.bin_numbers == schema.position(name)
    return encoding.bin_starts[chosen], encoding.bin_widths[chosen]


def test_bins_are_where_the_label_changes_and_cover_the_training_rows(rows):
    features, labels = rows.features, rows.labels
    encoding = Encoding.fit(features, labels, None, bins=16)
    starts, widths = bins_of(encoding, features.schema, "age")
    age = features.values[:, features.schema.position("age")]
    assert 2 <= len(starts) <= 16
    assert (starts[0], starts[-1] + widths[-1]) == (age.min(), age.max())
    assert starts[1:] == pytest.approx((starts + widths)[:-1])


def test_a_number_that_says_nothing_of_the_label_gets_next_to_no_bins(rows, random):
    features, place = rows.features, rows.features.schema.position("fnlwgt")
    values = features.values.copy()
    values[:, place] = random.normal(size=len(values))
    encoding = Encoding.fit(replace(features, values=values), rows.labels, None, bins=64)
    assert len(bins_of(encoding, features.schema, "fnlwgt")[0]) <= 3


def test_missing_and_unseen_words_have_rows_of_their_own(rows):
    encoding = Encoding.fit(rows.features, rows.labels, None, bins=4)
    place = encoding.categories.tolist().index(rows.features.schema.position("education"))
    assert encoding.table_sizes[place] == UNSEEN + 1 + 16
    assert encoding.table_starts.tolist() == [0, *np.cumsum(encoding.table_sizes)[:-1]]


def test_an_encoding_comes_back_from_its_arrays(rows):
    encoding = Encoding.fit(rows.features, rows.labels, None, bins=4)
    for name, array in Encoding.of(encoding.arrays()).arrays().items():
        assert (array == encoding.arrays()[name]).all()


def test_a_file_with_a_pickle_in_it_is_refused(tmp_path):
    np.savez(tmp_path / "model.npz", evil=np.array([object()]))
    with pytest.raises(ArtifactError, match="Object arrays cannot be loaded"):
        read_arrays(tmp_path / "model.npz")


@pytest.mark.full
def test_jax_is_imported_to_train_only_and_says_nothing():
    program = """
import sys
import numpy as np
from models.families import FAMILIES
assert not {"jax", "xgboost", "sklearn", "onnx", "scipy"} & set(sys.modules)
from feature_store.definitions.engine import Engine
from feature_store.feature_definitions import MODEL_VIEW
table = np.random.default_rng(0).normal(size=(60, 47)).astype(np.float32)
from feature_store.definitions.engine import FeatureMatrix
few = FeatureMatrix(table, np.arange(60), np.zeros(60, "datetime64[us]"), MODEL_VIEW.schema)
FAMILIES["neural_network"]({"epochs": 1, "width": 16}).fit(few, np.arange(60) % 2)
assert "jax" in sys.modules
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("", "")
