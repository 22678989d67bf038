"""The rule file: what it states, and that a damaged one is refused by file and key."""

import pytest
import yaml

from intaglio.errors import BadInput
from intaglio.layout.rules import read_rules, rules, rules_path


def test_rules_have_their_published_names():
    r = rules("sky130")
    assert (r["ct.1"], r["ct.2"], r["m1.4"], r["m1.6"]) == (170, 190, 30, 83_000)
    assert r.layers["mcon"] == (67, 44)
    assert r.programmable == "mcon"
    assert all(rule.value % r.grid == 0 for rule in r.rules.values() if rule.check != "area")


def test_another_process_cannot_be_drawn():
    with pytest.raises(BadInput, match=r"^masks can be drawn on sky130, not 'n6'$"):
        rules("n6")


def change(values: dict, path: tuple[str, ...], value: object) -> None:
    *above, last = path
    for key in above:
        values = values[key]
    if value is None:
        del values[last]
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("layers",), None, r"own\.yaml: has no layers"),
        (("extra",), 1, r"own\.yaml: unknown key extra"),
        (("programmable",), "gold", r"own\.yaml: programmable must be a layer, not 'gold'"),
        (("layers", "poly", "gds"), [66], r"own\.yaml: layers: poly: gds must be a layer and"),
        (("layers", "poly", "source"), "x", r"own\.yaml: layers: poly: source must be one"),
        (("rules", "ct.1", "value"), None, r"own\.yaml: rules: ct\.1: has no value"),
        (("rules", "ct.1", "value"), -1, r"own\.yaml: rules: ct\.1: value must be a whole number"),
        (("rules", "ct.1", "value"), 0.1701, r"own\.yaml: rules: ct\.1: value must be a whole"),
        (("rules", "ct.1", "check"), "taste", r"own\.yaml: rules: ct\.1: check must be one of"),
        (("rules", "ct.1", "layer"), "gold", r"own\.yaml: rules: ct\.1: layer must be one of"),
        (("rules", "m1.4", "of"), None, r"own\.yaml: rules: m1\.4: has no of"),
        (("grid",), 0, r"own\.yaml: grid must be above 0"),
    ],
)
def test_a_damaged_file_is_refused_by_its_key(tmp_path, path, value, message):
    values = yaml.safe_load(rules_path("sky130").read_text())
    change(values, path, value)
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(values))
    with pytest.raises(BadInput, match=message):
        read_rules(own)
