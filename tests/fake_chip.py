"""A `chip` with the real one's port and probes, that replays tokens: what the harness is tested on.

Its layer is one operation, its logits are made up, and a word of its ROM folder plants a fault.
"""

from pathlib import Path

import numpy as np

from intaglio import hardware
from intaglio.golden.number import LOGIT
from intaglio.hardware.port import COMMAND, HEADER, PROBES, RESULT, logits_layout
from intaglio.verify.simulation import HARNESS, write_layout
from intaglio.verify.trace import Request, TraceFile
from intaglio.verify.verilator import build

VERILOG = Path(hardware.__file__).with_name("verilog")
BEAT, WIDTH, VOCABULARY, LAYERS, CONTEXT = 4, 8, 10, 1, 64
SIZES = [{"embedding": WIDTH}, {"q": WIDTH}, {"norm": WIDTH, "logits": VOCABULARY, "token": 1}]
FAULTS = (
    "none", "element", "hang", "lost_beat", "token", "finish", "foreign_operation",
)  # fmt: skip
FAULT_POSITION = 3


def field(word: str, layout, name: str) -> str:
    """A Verilog slice of a port's payload."""
    place = layout[name]
    return f"{word}[{place.offset + place.width - 1}:{place.offset}]"


def probe(op: str, bits: int, fire: str, layer: str, data: str) -> str:
    return f"""
  probe #(.OP({PROBES.index(op)}), .COUNT({BEAT}), .BITS({bits})) probe_{op} (
    .clk(gated), .fire({fire}), .layer({layer}), .slot, .position, .data({data})
  );"""


def head(beat: int) -> str:
    """The module's name and port."""
    return f"""module chip (
  input logic clk, input logic rst,
  input logic [{COMMAND.size - 1}:0] command__payload,
  input logic command__valid, output logic command__ready,
  output logic [{RESULT.size - 1}:0] result__payload,
  output logic result__valid, input logic result__ready,
  output logic [{logits_layout(beat, LOGIT.bits).size - 1}:0] logits__payload,
  output logic logits__valid, input logic logits__ready,
  output logic busy
);"""


def verilog() -> str:
    """The module; one state per beat, so a position takes 4 cycles, or 8 with logits."""
    logits = logits_layout(BEAT, LOGIT.bits)
    last = -(-VOCABULARY // BEAT) - 1

    def command(name: str) -> str:
        return field("command__payload", COMMAND, name)

    return f"""{head(BEAT)}
  string folder;
  logic [31:0] tokens [{CONTEXT}], fault [1];
  initial begin
    if (!$value$plusargs("rom=%s", folder)) $fatal(1, "+rom is missing");
    $readmemh({{folder, "/tokens.hex"}}, tokens);
    $readmemh({{folder, "/fault.hex"}}, fault);
    $display("the chip prints, and no reply is disturbed");
  end

  typedef enum logic [2:0] {{IDLE, EMBEDDING, Q, NORM, LOGITS, RESULT}} state_t;
  state_t state;
  logic [3:0] beat;
  logic [19:0] token, position, limit [4], stop [4];
  logic [7:0] slot, epoch, epochs [4];
  logic last, host [4], stop_enable [4];

  wire gated;
  wire [7:0] which = {command("slot")};
  clock_gate gate (.clk, .rst, .gated_rst(), .enable(busy | command__valid), .gated);
  assign busy = state != IDLE;
  assign command__ready = state == IDLE;
  wire bad = position == {FAULT_POSITION};

  wire [19:0] next = tokens[position[5:0]][19:0] ^ 20'(bad && fault[0] == {FAULTS.index("token")});
  wire stops = stop_enable[slot[1:0]] && next == stop[slot[1:0]];
  wire final_ = position + 2 >= limit[slot[1:0]] || stops;
  assign {field("result__payload", RESULT, "slot")} = slot;
  assign {field("result__payload", RESULT, "epoch")} = epoch;
  assign {field("result__payload", RESULT, "position")} = position + 1;
  assign {field("result__payload", RESULT, "token")} = next;
  assign {field("result__payload", RESULT, "final")} = final_;
  assign result__valid = state == RESULT && !(bad && fault[0] == {FAULTS.index("hang")});

  logic [{BEAT * 32 - 1}:0] residual;
  logic [{BEAT * 16 - 1}:0] q;
  logic [{BEAT * 8 - 1}:0] norm;
  logic [{BEAT * LOGIT.bits - 1}:0] head;
  always_comb
    for (int i = 0; i < {BEAT}; ++i) begin
      residual[32*i +: 32] = 32'(token) * 1000 - 4000 + 32'(beat) * {BEAT} + i;
      q[16*i +: 16] = 16'(token) * 100 - 400 + 16'(beat) * {BEAT} + 16'(i);
      if (bad && fault[0] == {FAULTS.index("element")} && beat == 1 && i == 2) q[16*i +: 16] += 1;
      norm[8*i +: 8] = 8'(token) - 5 + 8'(beat) * {BEAT} + 8'(i);
      head[{LOGIT.bits}*i +: {LOGIT.bits}] = 24'(position) * 1000 - 9000 + 24'(beat) * {
        BEAT
    } + 24'(i);
    end
  assign {field("logits__payload", logits, "data")} = head;
  assign logits__payload[{logits["header"].offset + HEADER.size - 1}:{logits["header"].offset}]
    = {{last, position, epoch, slot}};
  assign logits__valid = state == LOGITS && host[slot[1:0]];
  wire flows = state == LOGITS && (logits__ready || !host[slot[1:0]]);
{probe("embedding", 32, "state == EMBEDDING", "16'hFFFF", "residual")}
{
        probe(
            "q",
            16,
            f"state == Q && !(bad && fault[0] == {FAULTS.index('lost_beat')} && beat == 1)",
            f"bad && fault[0] == {FAULTS.index('foreign_operation')} ? 16'd7 : 16'd0",
            "q",
        )
    }
{probe("norm", 8, "state == NORM", f"16'd{LAYERS}", "norm")}
{probe("logits", LOGIT.bits, "flows", f"16'd{LAYERS}", "head")}

  always_ff @(posedge gated)
    if (rst) begin
      state <= IDLE;
      beat <= 0;
    end else begin
      beat <= 0;
      case (state)
        IDLE: if (command__valid) begin
          if ({command("kind")}) begin
            epochs[which[1:0]] <= {command("epoch")};
            limit[which[1:0]] <= {command("limit")};
            stop[which[1:0]] <= {command("stop")};
            stop_enable[which[1:0]] <= {command("stop_enable")};
            host[which[1:0]] <= {command("host")};
          end else begin
            slot <= which;
            epoch <= {command("epoch")};
            token <= {command("token")};
            position <= {command("position")};
            last <= {command("last")};
            state <= EMBEDDING;
          end
        end
        EMBEDDING: if (beat == 1) state <= Q; else beat <= 1;
        Q: if (beat == 1) begin
          state <= last ? NORM : IDLE;
          if (bad && fault[0] == {FAULTS.index("finish")}) $finish;
        end else beat <= 1;
        NORM: if (beat == 1) state <= LOGITS; else beat <= 1;
        LOGITS:
          if (!flows) beat <= beat;
          else if (beat != {last}) beat <= beat + 1;
          else state <= host[slot[1:0]] ? IDLE : RESULT;
        RESULT: if (result__valid && result__ready || epoch != epochs[slot[1:0]]) begin
          state <= final_ || epoch != epochs[slot[1:0]] ? IDLE : EMBEDDING;
          token <= next;
          position <= position + 1;
        end
        default: ;
      endcase
    end
endmodule
"""


def write_rom(folder: Path, tokens: list[int], fault: str = "none") -> Path:
    """The tokens to replay by position of the logits, and a fault."""
    words = [*tokens, *[0] * (CONTEXT - len(tokens))]
    (folder / "tokens.hex").write_text("\n".join(f"{token:x}" for token in words) + "\n")
    (folder / "fault.hex").write_text(f"{FAULTS.index(fault):x}\n")
    return folder


def expected_logits(position: int) -> np.ndarray:
    return position * 1000 - 9000 + np.arange(VOCABULARY)


def write_trace(
    path: Path, request: Request, tokens: list[int], wrong: tuple[str, int, int] | None = None
) -> TraceFile:
    """What the fake's probes show for a request; ``wrong``: (op, position, element) to spoil."""
    file = TraceFile(path, SIZES, 1, request.positions)
    sequence = [*request.prompt, *tokens[len(request.prompt) - 1 :]]
    for position in range(request.positions):
        token = sequence[position]
        rows = {
            ("embedding", -1): token * 1000 - 4000 + np.arange(WIDTH),
            ("q", 0): token * 100 - 400 + np.arange(WIDTH),
            ("norm", LAYERS): token - 5 + np.arange(WIDTH),
            ("logits", LAYERS): expected_logits(position),
            ("token", LAYERS): np.array([sequence[position + 1]])
            if position + 1 < len(sequence)
            else np.array([0]),
        }
        for (op, layer), values in rows.items():
            if layer == LAYERS and position < len(request.prompt) - 1:
                continue
            if wrong and wrong[:2] == (op, position):
                values[wrong[2]] += 1
            file.write(0, layer, op, position, values[None])
        file.publish(0, position + 1)
    return file


def build_fake(folder: Path, *, waves: bool = False) -> Path:
    """The program, with the real chip's harness."""
    folder.mkdir(exist_ok=True)
    source = folder / "chip.sv"
    source.write_text(verilog())
    write_layout(folder, BEAT, VOCABULARY)
    modules = [VERILOG / name for name in ("clock_gate.sv", "probe.sv")]
    return build([*modules, source], "chip", HARNESS, folder, waves=waves)
