import numpy as np
import polars as pl
import pytest

from asdbench.engine.fitted_fusion import FittedFusion, Normalization
from asdbench.engine.scoring import fuse_components
from asdbench.errors import InputError
from asdbench.io.records import record_from_json, record_to_json
from asdbench.system import Fusion


def table() -> pl.DataFrame:
    generator = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "clip_id": range(12),
            "use": ["hold-out"] * 8 + ["test"] * 4,
            "a": generator.normal(3, 2, 12),
            "b": generator.normal(-1, 0.1, 12),
        }
    )


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_stored_fusion_gives_the_same_scores_to_the_bit(scale: str) -> None:
    fusion = Fusion({"a": 0.3, "b": 0.7}, scale)  # type: ignore[arg-type]
    components = table()
    fitted = FittedFusion.from_table(components, fusion)
    content = record_to_json(fitted)
    again = record_from_json(
        content.replace(b"{", b'{"schema_version": 1,', 1), _Versioned, schema_version=1, path="x", cure=""
    )
    tested = components.filter(pl.col("use") == "test")
    expected = fuse_components(components, fusion).filter(pl.col("use") == "test")["score"]
    scores = FittedFusion(again.weights, again.scale, again.normalizations).score(
        {name: tested[name].to_numpy() for name in ("a", "b")}
    )
    assert scores.tolist() == expected.to_list()


class _Versioned(FittedFusion, frozen=True, forbid_unknown_fields=True):
    schema_version: int = 1


def test_components_without_a_weight_are_ignored() -> None:
    fitted = FittedFusion.from_table(table(), Fusion({"a": 1.0, "b": 0.0}))
    assert list(fitted.weights) == list(fitted.normalizations) == ["a"]
    with pytest.raises(InputError, match="fusion weights name component 'c'; the system has: a, b"):
        FittedFusion.from_table(table(), Fusion({"c": 1.0}))


def test_equal_hold_out_scores_do_not_divide_by_zero() -> None:
    same = pl.DataFrame({"use": ["hold-out"] * 3, "a": [1.0] * 3})
    assert np.isfinite(Normalization.from_table(same, "a").apply(np.array([1.0, 2.0]))).all()
