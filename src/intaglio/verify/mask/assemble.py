"""A model put together from the codes of all arrays, fabrics' and ROMs'."""

from pathlib import Path
from typing import Any

import numpy as np

from intaglio.errors import BadPackage, IntaglioError, Mismatch
from intaglio.golden.model import MATRICES, IntModel, Layer, Matrix, Norm
from intaglio.golden.number import product_bits
from intaglio.plan.chip import ChipPlan
from intaglio.plan.tiling import FabricPlan


class Assembly:
    """Puts a model together from the codes of all arrays.

    ``folder``: where they were read. ``fault``: the first of them that contradicts the others.
    """

    def __init__(
        self, folder: Path, plan: ChipPlan, roms: dict[str, Any], codes: dict[str, np.ndarray]
    ) -> None:
        self.folder, self.plan, self.roms, self.codes = folder, plan, roms, codes
        self.fault: Mismatch | None = None

    def blame(self, message: str) -> None:
        """Keep a fault, unless there is one."""
        self.fault = self.fault or Mismatch(f"{self.folder}: {message}")

    def model(self) -> IntModel:
        """The whole model. Raises :class:`BadPackage` where it is none."""
        try:
            return self.whole()
        except IntaglioError as error:
            raise self.fault or BadPackage(f"{self.folder}: {error.message}") from None

    def whole(self) -> IntModel:
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
            word, bit = np.argwhere(bits[rom["words"] :])[0].tolist()
            cell = self.rom_cell(name, rom["words"] + word, bit)
            self.blame(f"{cell} holds a bit of a word beyond the last")
        bits = bits[: rom["words"]].reshape(-1, width)
        found, at = {}, 0
        for field, size in rom["fields"]:
            value = np.zeros(len(bits), np.uint64)
            for bit in range(size):
                value |= bits[:, at + bit].astype(np.uint64) << np.uint64(bit)
            found[field] = value
            at += size
        return found

    def rom_cell(self, name: str, word: int, bit: int) -> str:
        """The cell that holds a bit of a ROM's word."""
        rows, lanes, columns = self.codes[name].shape
        width = self.roms[name]["repeat"] * sum(bits for _, bits in self.roms[name]["fields"])
        at = np.unravel_index(word // 2 * width + bit, (lanes, rows, columns))
        lane, row, column = map(int, at)
        return cell_name(name, row, lane, column)

    def outputs(self, name: str, fabric: FabricPlan) -> dict[str, np.ndarray]:
        """The fields of a ROM that has an element for every output; beyond the last it is 0."""
        found, at = self.words(name), 0
        fields, repeat = self.roms[name]["fields"], self.roms[name]["repeat"]
        width = sum(bits for _, bits in fields)
        for field, size in fields:
            beyond = found[field][fabric.outputs :]
            if beyond.any():
                element = int(np.flatnonzero(beyond)[0])
                value = int(beyond[element])
                word, inner = divmod(fabric.outputs + element, repeat)
                bit = inner * width + at + (value & -value).bit_length() - 1
                self.blame(f"{self.rom_cell(name, word, bit)} is beyond the last output's")
            at += size
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
        idle = np.arange(fabric.rows * fabric.lanes) >= fabric.inputs
        self.check_idle(name, 0, idle.reshape(fabric.rows, fabric.lanes), fabric)
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
        for row, lane in np.argwhere(rows > fabric.rows)[:1].tolist():
            self.blame(
                f"{name}_map: extra row {row}, lane {lane} must repeat one of {fabric.rows} rows, "
                f"not row {rows[row, lane]}"
            )
        self.check_idle(name, fabric.rows, ~used, fabric)
        extra, lane = np.nonzero(used)
        inputs = rows[extra, lane] * fabric.lanes + lane
        order = np.argsort(inputs, kind="stable")
        return inputs[order].astype(np.int32), second[extra[order], lane[order]]

    def check_idle(self, name: str, first: int, idle: np.ndarray, fabric: FabricPlan) -> None:
        """Blame the first cell without an input that does not hold what those have to.

        ``idle``: bool [rows, lanes], of the rows from ``first`` on.
        """
        cells = self.codes[name][first : first + len(idle)]
        wrong = (cells != unused(fabric)) & idle[..., None]
        if wrong.any():
            row, lane, column = np.argwhere(wrong)[0].tolist()
            self.blame(
                f"{cell_name(name, first + row, lane, column)} has no input and must hold "
                f"code {unused(fabric)[column]}, not {cells[row, lane, column]}"
            )

    def check_start(self, name: str, fabric: FabricPlan) -> None:
        """Blame the first column whose start value does not follow from the codes.

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
            self.blame(
                f"{name}, column {int(wrong.argmax())}: its start value contradicts its codes"
            )


def unused(fabric: FabricPlan) -> np.ndarray:
    """What the columns of a lane without an input hold: the positive codes in turn."""
    return np.resize(np.arange(1 << fabric.bits - 1), fabric.outputs)


def cell_name(array: str, row: int, lane: int, column: int) -> str:
    """What a cell is called."""
    return f"{array}, row {row}, lane {lane}, column {column}"
