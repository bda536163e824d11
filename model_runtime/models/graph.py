"""The window pass as an ONNX graph, node by node, for checkpoints that are too large for torch's exporter.

Inputs and outputs are those of `export.py`, its two batch axes being one (`backends/onnx.py: ungrouped`). The
operators are ONNX Runtime's own: keys and values are shared by the heads of a group without being repeated, the last
layer works on the asked rows only, and the reduction passes over the logits four times instead of ten. Matrices go to
`store` one at a time as they are met.

Legend as in `dream.py`; G heads a group (H = K * G), C biases, A candidates a row. T = P + W.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper

from model_runtime.models.families import CANDIDATES, HOLE, PADDING

MICROSOFT = "com.microsoft"
FLOOR = float(np.finfo(np.float32).min / 2)  # finite, so that a row that sees nothing gives numbers and not nan
OPSET, IR = 18, 10
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


class Store(Protocol):
    """Where the graph's numbers come from and go to; names are the checkpoint's."""

    def vector(self, name: str, width: int) -> str:
        """An initializer of one tensor of the checkpoint."""
        ...

    def table(self, graph: Graph, name: str, ids: str, rows: int, width: int) -> str:
        """Nodes that look up rows of an embedding: float32 [..., width]."""
        ...

    def linear(self, graph: Graph, x: str, names: list[tuple[str, int]], width: int, biases: list[str]) -> str:
        """Nodes that multiply by matrices [rows, width] of the checkpoint, stacked; `biases` likewise, or none."""
        ...

    def small(self, name: str, value: np.ndarray) -> None:
        """Add an initializer that belongs to the graph itself."""
        ...


class Graph:
    """Nodes in their order, and names for what they make."""

    def __init__(self, store: Store):
        self.store = store
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        name = f"{kind}_{len(self.nodes)}"
        made = [f"{name}:{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=name, domain=domain, **attributes))
        return made

    def constant(self, value: Any, kind: type = np.int64) -> str:
        """An initializer of numbers; the same numbers are kept once."""
        array: np.ndarray = np.asarray(value, kind)
        key = (array.tobytes(), array.shape, array.dtype.str)
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self.store.small(self._constants[key], array)
        return self._constants[key]

    def reshape(self, x: str, *shape: int) -> str:
        """0 keeps an axis, -1 takes what is left."""
        return self.op("Reshape", x, self.constant(shape))

    def unsqueeze(self, x: str, *axes: int) -> str:
        return self.op("Unsqueeze", x, self.constant(axes))

    def name(self, x: str, name: str) -> None:
        """Give an output of the graph its name."""
        self.nodes.append(helper.make_node("Identity", [x], [name], name=f"out_{name}"))


def window_graph(config: dict[str, Any], store: Store) -> onnx.GraphProto:
    """The graph of a model of this config.json; its initializers are the store's."""
    graph, layers = Graph(store), config["num_hidden_layers"]
    width, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_width, inner, vocabulary = width // heads, config["intermediate_size"], config["vocab_size"]
    epsilon = float(config.get("rms_norm_eps", 1e-6))
    biased = config.get("qkv_bias", True)
    theta, block_length = float(config.get("rope_theta", 1_000_000.0)), config.get("block_length")
    where = placed(graph, head_width, theta, heads // kv_heads, block_length)
    x = store.table(graph, "model.embed_tokens.weight", "ids", vocabulary, width)
    scale = store.vector("model.layers.0.input_layernorm.weight", width)
    normed = graph.op("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=epsilon, stash_type=1)
    keys, values = [], []
    for n in range(layers):
        at, last = f"model.layers.{n}.", n == layers - 1
        sizes = [heads * head_width, kv_heads * head_width, kv_heads * head_width]
        names = [f"{at}self_attn.{part}_proj" for part in "qkv"]
        biases = [f"{name}.bias" for name in names] if biased else []
        stacked = [(f"{name}.weight", rows) for name, rows in zip(names, sizes, strict=True)]
        qkv = store.linear(graph, normed, stacked, width, biases)
        q, k, v = graph.ops("Split", qkv, graph.constant(sizes), outputs=3, axis=-1)
        if last:  # nothing behind it needs the other rows
            q, x = take_rows(graph, q), take_rows(graph, x)
        k, v = (
            graph.op("Transpose", graph.reshape(part, 0, 0, kv_heads, head_width), perm=[0, 2, 1, 3]) for part in (k, v)
        )
        keys.append(graph.unsqueeze(k, 0))
        values.append(graph.unsqueeze(v, 0))
        y = attend(graph, where, n, q, k, v, heads, kv_heads, head_width, last)
        y = store.linear(graph, y, [(f"{at}self_attn.o_proj.weight", width)], heads * head_width, [])
        x, normed = add_and_norm(graph, x, y, f"{at}post_attention_layernorm.weight", width, epsilon)
        gate, up = (
            store.linear(graph, normed, [(f"{at}mlp.{p}_proj.weight", inner)], width, []) for p in ("gate", "up")
        )
        gated = graph.op("Mul", graph.op("QuickGelu", gate, domain=MICROSOFT, alpha=1.0), up)
        y = store.linear(graph, gated, [(f"{at}mlp.down_proj.weight", width)], inner, [])
        following = "model.norm.weight" if last else f"model.layers.{n + 1}.input_layernorm.weight"
        x, normed = add_and_norm(graph, x, y, following, width, epsilon)
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings", False) else "lm_head.weight"
    reduce_rows(graph, store.linear(graph, normed, [(head, vocabulary)], width, []), vocabulary)
    graph.name(graph.op("Concat", *keys, axis=0), "k")
    graph.name(graph.op("Concat", *values, axis=0), "v")
    inputs, outputs = signature(layers, kv_heads, head_width, vocabulary)
    return helper.make_graph(graph.nodes, "window", inputs, outputs)


class Placed:
    """What all layers share: the mask, and how rows and keys turn with their positions."""

    mask: str  # float, added to the scores: [B, 1, G * W, T]
    mask_last: str  # of the asked rows: [B, 1, G * R, T]
    cos: str  # [B * T, D / 2]
    sin: str
    of_keys: str  # rows of cos and sin: [B, T]
    of_queries: str  # [B, W]
    of_queries_last: str  # [B, R]
    past_k: str  # [N * Q, K, P, D]
    past_v: str
    pasts: str  # Q: 1, a past that all rows of the batch share, or B
    of_batch: str  # the past of each row of the batch: [B]


def placed(graph: Graph, head_width: int, theta: float, group: int, block_length: int | None) -> Placed:
    """Nodes for mask and rotary embedding, from segments and positions."""
    out, zero = Placed(), graph.constant(0)
    all_segments = graph.op("Concat", "past_segments", "segments", axis=1)
    all_positions = graph.op("Concat", "past_positions", "positions", axis=1)
    hole = graph.unsqueeze(graph.op("Equal", "segments", graph.constant(HOLE)), 2)
    present = graph.unsqueeze(graph.op("Not", graph.op("Equal", all_segments, graph.constant(PADDING))), 1)
    same = graph.op("Equal", graph.unsqueeze("segments", 2), graph.unsqueeze(all_segments, 1))
    earlier = graph.op("LessOrEqual", graph.unsqueeze(all_positions, 1), graph.unsqueeze("positions", 2))
    visible = graph.op("Or", graph.op("And", hole, present), graph.op("And", same, earlier))
    if block_length is not None:  # a row sees its own block of positions, and those before it
        theirs, own = (graph.op("Div", at, graph.constant(block_length)) for at in (all_positions, "positions"))
        ordered = graph.op("LessOrEqual", graph.unsqueeze(theirs, 1), graph.unsqueeze(own, 2))
        visible = graph.op("And", visible, ordered)
    mask_BWT = graph.op("Where", visible, graph.constant(0.0, np.float32), graph.constant(FLOOR, np.float32))

    def of_groups(mask: str) -> str:
        one = graph.unsqueeze(mask, 1)
        return graph.op("Concat", *[one] * group, axis=2) if group > 1 else one

    out.mask, out.mask_last = of_groups(mask_BWT), of_groups(take_rows(graph, mask_BWT))
    frequencies = (1.0 / theta ** (np.arange(0, head_width, 2, dtype=np.float32) / head_width)).astype(np.float32)
    flat = graph.reshape(graph.op("Cast", all_positions, to=FLOAT), -1, 1)
    angles = graph.op("Mul", flat, graph.constant(frequencies[None], np.float32))
    out.cos, out.sin = graph.op("Cos", angles), graph.op("Sin", angles)
    shape = graph.op("Shape", all_positions)
    count = graph.op("ReduceProd", shape, graph.constant([0]), keepdims=0)
    every = graph.op("Range", zero, count, graph.constant(1))
    out.of_keys = graph.op("Reshape", every, shape)
    past = graph.op("Shape", "past_positions", start=1, end=2)
    total = graph.op("Shape", all_positions, start=1, end=2)
    out.of_queries = graph.op("Slice", out.of_keys, past, total, graph.constant([1]))
    out.of_queries_last = graph.op("GatherElements", out.of_queries, "rows", axis=1)
    out.pasts = graph.op("Shape", "past_k", start=1, end=2)
    stacked = graph.op("ReduceProd", graph.op("Shape", "past_k", end=2), graph.constant([0]), keepdims=1)
    flat = graph.op("Concat", stacked, graph.op("Shape", "past_k", start=2), axis=0)
    out.past_k, out.past_v = (graph.op("Reshape", past, flat, allowzero=1) for past in ("past_k", "past_v"))
    batch = graph.op("Squeeze", graph.op("Shape", "ids", start=0, end=1))
    one = graph.constant(1)
    out.of_batch = graph.op("Min", graph.op("Range", zero, batch, one), graph.op("Sub", out.pasts, one))
    return out


def take_rows(graph: Graph, x: str) -> str:
    """The asked rows [B, R, ...] of [B, W, ...]."""
    return graph.op("GatherND", x, graph.unsqueeze("rows", 2), batch_dims=1)


def attend(
    graph: Graph, where: Placed, n: int, q: str, k: str, v: str, heads: int, kv_heads: int, head_width: int, last: bool
) -> str:
    """Attention of queries [B, W, H * D] to the past's and the window's keys and values [B, K, W, D]: [B, W, H * D].

    The queries of a group stand one behind the other, as if the window were G times as long: nothing is repeated.
    """
    group, layer = heads // kv_heads, graph.constant(n)
    q = graph.op(
        "RotaryEmbedding",
        q,
        where.of_queries_last if last else where.of_queries,
        where.cos,
        where.sin,
        domain=MICROSOFT,
    )
    of_layer = graph.op("Add", where.of_batch, graph.op("Mul", where.pasts, layer))
    past_k, past_v = (graph.op("Gather", past, of_layer, axis=0) for past in (where.past_k, where.past_v))
    keys = graph.op("Concat", past_k, k, axis=2)
    keys = graph.op("RotaryEmbedding", keys, where.of_keys, where.cos, where.sin, domain=MICROSOFT)
    values = graph.op("Concat", past_v, v, axis=2)
    if group > 1:
        q = graph.op("Transpose", graph.reshape(q, 0, 0, kv_heads, group, head_width), perm=[0, 3, 1, 2, 4])
        q = graph.reshape(q, 0, -1, kv_heads * head_width)
    mask = where.mask_last if last else where.mask
    y = graph.op(
        "MultiHeadAttention",
        q,
        keys,
        values,
        "",
        "",
        mask,
        domain=MICROSOFT,
        num_heads=kv_heads,
        scale=head_width**-0.5,
    )
    if group > 1:
        y = graph.reshape(y, 0, group, -1, kv_heads, head_width)
        y = graph.reshape(graph.op("Transpose", y, perm=[0, 2, 3, 1, 4]), 0, 0, heads * head_width)
    return y


def add_and_norm(graph: Graph, x: str, y: str, scale: str, width: int, epsilon: float) -> tuple[str, str]:
    """The sum x + y, and its root-mean-square norm."""
    outputs = graph.ops(
        "SkipSimplifiedLayerNormalization",
        *(x, y, graph.store.vector(scale, width)),
        outputs=4,
        domain=MICROSOFT,
        epsilon=epsilon,
    )
    graph.nodes[-1].output[1] = graph.nodes[-1].output[2] = ""  # mean and deviation
    return outputs[3], outputs[0]


def reduce_rows(graph: Graph, logits_BRV: str, vocabulary: int) -> None:
    """The outputs of `export.reduce_logits`, from as few passes over [B, R, V] as will do."""
    logits = graph.op("Add", logits_BRV, graph.op("Gather", "bias", "bias_rows", axis=0))
    best, ids = graph.ops("TopK", logits, graph.constant([min(CANDIDATES, vocabulary)]), outputs=2, axis=-1)
    probabilities = graph.op("Softmax", logits, axis=-1)
    first, winner = (
        graph.op("Slice", part, graph.constant([0]), graph.constant([1]), graph.constant([2])) for part in (best, ids)
    )
    highest = graph.op("GatherElements", probabilities, winner, axis=2)
    total = graph.op("Sub", first, graph.op("Log", highest))  # log of the sum of exponentials: [B, R, 1]
    log_probs = graph.op("Sub", best, total)
    expected = graph.op("ReduceSum", graph.op("Mul", probabilities, logits), graph.constant([2]), keepdims=1)
    entropy = graph.op("Sub", total, expected)
    one, two = (
        graph.op("Exp", graph.op("Slice", log_probs, *(graph.constant([i]) for i in span)))
        for span in ((0, 1, 2), (1, 2, 2))
    )
    asked = graph.op("Sub", graph.op("GatherElements", logits, graph.unsqueeze("targets", 2), axis=2), total)
    graph.name(ids, "candidate_ids")
    graph.name(log_probs, "candidate_log_probs")
    for name, value in (("margin", graph.op("Sub", one, two)), ("entropy", entropy), ("target_log_probs", asked)):
        graph.name(graph.op("Squeeze", value, graph.constant([2])), name)


def signature(layers: int, kv_heads: int, head_width: int, vocabulary: int) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs with their shapes, under the names of `export.INPUTS` and `export.OUTPUTS`."""
    cached: list[Any] = [layers, "Q", kv_heads, "P", head_width]  # Q is 1, for a past that all rows share, or B
    shapes: dict[str, tuple[int, list[Any]]] = {
        "ids": (INT, ["B", "W"]),
        "positions": (INT, ["B", "W"]),
        "segments": (INT, ["B", "W"]),
        "past_k": (FLOAT, cached),
        "past_v": (FLOAT, cached),
        "past_positions": (INT, ["B", "P"]),
        "past_segments": (INT, ["B", "P"]),
        "rows": (INT, ["B", "R"]),
        "bias": (FLOAT, ["C", vocabulary]),
        "bias_rows": (INT, ["B", "L"]),  # L is R, or 1 where one line serves all rows
        "targets": (INT, ["B", "R"]),
    }
    count = min(CANDIDATES, vocabulary)
    made: dict[str, tuple[int, list[Any]]] = {
        "candidate_ids": (INT, ["B", "R", count]),
        "candidate_log_probs": (FLOAT, ["B", "R", count]),
        "margin": (FLOAT, ["B", "R"]),
        "entropy": (FLOAT, ["B", "R"]),
        "target_log_probs": (FLOAT, ["B", "R"]),
        "k": (FLOAT, [layers, "B", kv_heads, "W", head_width]),
        "v": (FLOAT, [layers, "B", kv_heads, "W", head_width]),
    }
    return tuple(  # type: ignore[return-value]
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in given.items()]
        for given in (shapes, made)
    )
