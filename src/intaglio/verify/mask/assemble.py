"""A model put together from the codes of all arrays, fabrics' and ROMs'."""

from typing import Any

import numpy as np

from intaglio.errors import Mismatch
from intaglio.golden.model import MATRICES, IntModel, Layer, Matrix, Norm
from intaglio.golden.number import product_bits
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import FabricPlan


class Assembly:
    """Puts a model together from the codes of all arrays."""

    def __init__(self, plan: ChipPlan, roms: dict[str, Any], codes: dict[str, np.ndarray]) -> None:
        self.plan, self.roms, self.codes = plan, roms, codes

    def model(self) -> IntModel:
        """The whole model; its own checks are made."""
        a = self.plan.architecture
        layers = []
        for index, fabrics in enumerate(self.plan.layers):
            place = f"layers.{index}"
            layers.append(
                Layer(
                    norm_attention=self.norm(f"{place}.norm_attention"),
                    norm_mlp=self.norm(f"{place}.norm_mlp"),
                    score_shift=int(self.words(f"{place}.score_shift")["score_shift"][0]),
                    **{name: self.matrix(f"{place}.{name}", fabrics[name]) for name in MATRICES},
                )
            )
        elements = self.words("embedding")["element"].astype(np.uint8).view(np.int8)
        step = int(self.words("residual_step")["residual_step"][0])
        return IntModel(
            architecture=a,
            widths=self.plan.widths,
            residual_step=step - 256 if step > 127 else step,
            rotary=np.array(self.plan.rotary, np.int64),
            embedding=elements.reshape(a.vocabulary, a.width),
            embedding_multiplier=self.words("embedding_multiplier")["multiplier"].astype(np.uint16),
            embedding_shift=int(self.words("embedding_shift")["embedding_shift"][0]),
            layers=tuple(layers),
            norm=self.norm("norm"),
            head=self.matrix("head", self.plan.head),
        )

    def words(self, name: str) -> dict[str, np.ndarray]:
        """The fields of a ROM's words: uint64 [elements of all words] by name.

        A cell's low bit belongs to an even word, its high bit to the odd one after it.
        """
        rom, codes = self.roms[name], self.codes[name]
        width = sum(bits for _, bits in rom["fields"])
        cells = codes.transpose(1, 0, 2).reshape(-1, rom["repeat"] * width)
        bits = np.stack([cells & 1, cells >> 1], 1).reshape(2 * len(cells), -1)
        if bits[rom["words"] :].any():
            raise Mismatch(f"{name}: a contact outside its words")
        bits = bits[: rom["words"]].reshape(-1, width)
        found, at = {}, 0
        for field, size in rom["fields"]:
            value = np.zeros(len(bits), np.uint64)
            for bit in range(size):
                value |= bits[:, at + bit].astype(np.uint64) << np.uint64(bit)
            found[field] = value
            at += size
        return found

    def outputs(self, name: str, fabric: FabricPlan) -> dict[str, np.ndarray]:
        """The fields of a ROM that has an element for every output; beyond the last it is 0."""
        found = self.words(name)
        if any(values[fabric.outputs :].any() for values in found.values()):
            raise Mismatch(f"{name}: a contact beyond the last output")
        return {field: values[: fabric.outputs] for field, values in found.items()}

    def norm(self, name: str) -> Norm:
        """The constants of a norm."""
        own = self.words(name)
        return Norm(*(int(own[part][0]) for part in ("epsilon", "multiplier", "shift")))

    def matrix(self, name: str, fabric: FabricPlan) -> Matrix:
        """A fabric's codes and what stands behind it."""
        codes, narrow = self.codes[name], self.outputs(f"{name}_narrow", fabric)
        self.check_start(name, fabric)
        main = codes[: fabric.rows].reshape(-1, fabric.outputs)
        if (main[fabric.inputs :] != unused(fabric)).any():
            raise Mismatch(f"{name}: lanes without an input must hold the positive codes in turn")
        inputs, extra = self.extras(name, fabric)
        return Matrix(
            bits=fabric.bits,
            codes=np.ascontiguousarray(main[: fabric.inputs]),
            extra_shift=fabric.extra_shift,
            extra_inputs=inputs,
            extra_codes=extra,
            multiplier=narrow["multiplier"].astype(np.uint16),
            shift=narrow["shift"].astype(np.uint8),
        )

    def extras(self, name: str, fabric: FabricPlan) -> tuple[np.ndarray, np.ndarray]:
        """The inputs that have a second digit, ascending, and those digits."""
        second = self.codes[name][fabric.rows :]
        if not fabric.extra_rows:
            return np.zeros(0, np.int32), np.zeros((0, fabric.outputs), np.uint8)
        rows = self.words(f"{name}_map")["row"].astype(np.int64)
        rows = rows.reshape(fabric.extra_rows, fabric.lanes)
        used = rows < fabric.rows
        if (rows > fabric.rows).any() or (second[~used] != unused(fabric)).any():
            raise Mismatch(
                f"{name}: extra rows without an input must hold the positive codes in turn"
            )
        extra, lane = np.nonzero(used)
        inputs = rows[extra, lane] * fabric.lanes + lane
        order = np.argsort(inputs, kind="stable")
        return inputs[order].astype(np.int32), second[extra[order], lane[order]]

    def check_start(self, name: str, fabric: FabricPlan) -> None:
        """Raise :class:`Mismatch` unless start values follow from the codes.

        A negative product comes without its last 1; the sign's bit cycle counts every cell once too
        much: see docs/spec.md.
        """
        codes = self.codes[name]
        start = np.zeros(fabric.outputs, np.int64)
        for row, cells in enumerate(codes):
            each = (cells >> fabric.bits - 1).sum(0, dtype=np.int64)
            each -= len(cells) << product_bits(fabric.activation) - 1
            start += each << (fabric.extra_shift if row < fabric.rows else 0)
        expected = start & (1 << fabric.accumulator) - 1
        wrong = expected != self.outputs(f"{name}_start", fabric)["start"].astype(np.int64)
        if wrong.any():
            raise Mismatch(
                f"{name}, column {int(wrong.argmax())}: its start value contradicts its codes"
            )


def unused(fabric: FabricPlan) -> np.ndarray:
    """What the columns of a lane without an input hold: the positive codes in turn."""
    return np.resize(np.arange(1 << fabric.bits - 1), fabric.outputs)
