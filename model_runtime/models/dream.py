"""The Dream architecture: Qwen2 blocks without a causal mask, in torch, under Hugging Face names.

One forward serves training, whole-sequence decoding and the window pass of the engine. What a row may look at
is data, not code: a boolean `visible` array, or the segments from which `visible_from_segments` makes it.

Two modes of attention, a field of the config:

- `full`: every row sees every other (Dream, DiffuCoder). Keys and values of the context depend on what stands
  in the holes, so keeping them between denoising steps is an approximation.
- `context_blind`: a run of context (before, between, after the holes) is causal within itself and sees nothing
  else; rows of holes see everything. Keys and values of the context are exact whatever the holes become.

Keys are returned and cached *before* the rotary embedding and rotated when read, so text that moves only needs
new positions.

Legend: B batch, L length, W window, P past, T = P + W, H heads, K key/value heads, D head width, E model width,
V vocabulary, N layers, R rows whose logits are wanted, F pasts, of which each serves G = B / F rows of the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from model_runtime.models.attention import (
    attend_in_blocks,
    attend_to_past,
    in_block_order,
    rotary,
    rotate,
    visible_from_segments,
)


class DreamConfig(PreTrainedConfig):
    """Shape and token ids of a Dream model; unknown keys of a published config.json are kept as they are.

    Beyond the public layout: `attention` ("full" or "context_blind"), `shift` (row i predicts token i+1, as in
    Dream; else token i), `expand_token_id` and `delete_token_id` (DreamOn, arXiv 2602.01326),
    `tokenizer_size` (ids at or beyond it have no text and are never produced), `qkv_bias` (Llama and LLaDA have none)
    and `block_length` (Stable-DiffCoder, arXiv 2601.15892: a row sees its own block of so many positions and those
    before it).
    """

    model_type = "Dream"

    vocab_size: int = 152064
    hidden_size: int = 3584
    intermediate_size: int = 18944
    num_hidden_layers: int = 28
    num_attention_heads: int = 28
    num_key_value_heads: int | None = 4
    hidden_act: str = "silu"
    max_position_embeddings: int = 131072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    rope_scaling: dict | None = None
    tie_word_embeddings: bool = False
    attention_dropout: float = 0.0
    use_cache: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    mask_token_id: int | None = None
    expand_token_id: int | None = None
    delete_token_id: int | None = None
    tokenizer_size: int | None = None
    attention: str = "full"
    shift: bool = True
    qkv_bias: bool = True
    block_length: int | None = None

    def __post_init__(self, **kwargs):
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.attention not in ("full", "context_blind"):
            raise ValueError(f"attention is full or context_blind, not {self.attention!r}")
        if self.rope_scaling is not None:
            raise ValueError("rope_scaling is not supported by the Dream architecture")
        if self.hidden_act != "silu":
            raise ValueError(f"hidden_act is silu in the Dream architecture, not {self.hidden_act!r}")
        super().__post_init__(**kwargs)


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32 (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * x32.to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention, with biases on q, k, v if the config has them."""

    def __init__(self, config: DreamConfig):
        super().__init__()
        width, self.heads, self.kv_heads = (
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads or config.num_attention_heads,
        )
        self.width = width // self.heads
        self.q_proj = nn.Linear(width, self.heads * self.width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, self.kv_heads * self.width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, self.kv_heads * self.width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.width, width, bias=False)

    def forward(
        self,
        x_BWE: Tensor,
        turn: tuple[Tensor, Tensor],
        turn_past: tuple[Tensor, Tensor],
        visible_B1WT: Tensor | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output [B, W, E] and this window's keys (not yet turned) and values, each [B, K, W, D].

        With a past, `visible_B1WT` is an additive mask.
        """
        batch, window, _ = x_BWE.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(batch, window, heads, self.width).transpose(1, 2)

        q_BHWD = rotate(split(self.q_proj(x_BWE), self.heads), *turn)
        k_BKWD = split(self.k_proj(x_BWE), self.kv_heads)
        v_BKWD = split(self.v_proj(x_BWE), self.kv_heads)
        turned_BKWD = rotate(k_BKWD, *turn)
        if past is not None:
            assert visible_B1WT is not None
            past_k_FKPD = rotate(past[0], *turn_past)
            y_BHWD = attend_to_past(q_BHWD, turned_BKWD, v_BKWD, past_k_FKPD, past[1], visible_B1WT)
        elif visible_B1WT is not None and q_BHWD.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            y_BHWD = attend_in_blocks(q_BHWD, turned_BKWD, v_BKWD, visible_B1WT)
        else:
            k_all, v_all = turned_BKWD, v_BKWD
            if self.kv_heads != self.heads:  # repeated by hand: the CPU's fused kernel takes no groups
                k_all = k_all.repeat_interleave(self.heads // self.kv_heads, dim=1)
                v_all = v_all.repeat_interleave(self.heads // self.kv_heads, dim=1)
            y_BHWD = F.scaled_dot_product_attention(q_BHWD, k_all, v_all, attn_mask=visible_B1WT)
        return self.o_proj(y_BHWD.transpose(1, 2).reshape(batch, window, -1)), k_BKWD, v_BKWD


class MLP(nn.Module):
    """SwiGLU (Shazeer, arXiv 2002.05202)."""

    def __init__(self, config: DreamConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """A Qwen2 layer: norm, attention, norm, MLP, each added to the stream."""

    def __init__(self, config: DreamConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x_BWE: Tensor, turn, turn_past, visible_B1WT, past) -> tuple[Tensor, Tensor, Tensor]:
        attended, k, v = self.self_attn(self.input_layernorm(x_BWE), turn, turn_past, visible_B1WT, past)
        x_BWE = x_BWE + attended
        return x_BWE + self.mlp(self.post_attention_layernorm(x_BWE)), k, v


class DreamBase(nn.Module):
    """Embedding, blocks and final norm; holds the parameters that the public layout calls `model.*`."""

    def __init__(self, config: DreamConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False  # transformers sets it, and the function that does it


class DreamModel(PreTrainedModel):
    """A masked diffusion language model in the public Dream layout."""

    config_class = DreamConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Block"]  # noqa: RUF012  (read by transformers as a class attribute)
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: DreamConfig):
        super().__init__(config)
        self.model = DreamBase(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def hidden(
        self,
        ids_BW: Tensor,
        positions_BW: Tensor,
        visible_BWT: Tensor | None = None,
        past_k_NFKPD: Tensor | None = None,
        past_v_NFKPD: Tensor | None = None,
        past_positions_FP: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The last hidden states [B, W, E] after the final norm, and the keys and values [N, B, K, W, D].

        `visible_BWT` is boolean, or an additive float mask, as it must be with a past; none lets every row see every
        key. Each of the F pasts serves B / F rows of the batch that follow one another.
        """
        config = self.config
        head_width = config.hidden_size // config.num_attention_heads
        x_BWE = self.model.embed_tokens(ids_BW)

        def turn_to(positions: Tensor) -> tuple[Tensor, Tensor]:
            cos, sin = rotary(positions, head_width, config.rope_theta)
            return cos.to(x_BWE.dtype), sin.to(x_BWE.dtype)

        turn = turn_past = turn_to(positions_BW)
        if past_positions_FP is not None:
            turn_past = turn_to(past_positions_FP)
        visible_B1WT = None if visible_BWT is None else visible_BWT.unsqueeze(1)
        keys, values = [], []
        for n, block in enumerate(self.model.layers):
            past = None
            if past_k_NFKPD is not None and past_v_NFKPD is not None:
                past = past_k_NFKPD[n], past_v_NFKPD[n]
            if self.model.gradient_checkpointing and self.training:
                x_BWE, k, v = self.model._gradient_checkpointing_func(block, x_BWE, turn, turn_past, visible_B1WT, past)
            else:
                x_BWE, k, v = block(x_BWE, turn, turn_past, visible_B1WT, past)
            keys.append(k)
            values.append(v)
        return self.model.norm(x_BWE), torch.stack(keys), torch.stack(values)

    def window(
        self,
        ids_BW: Tensor,
        positions_BW: Tensor,
        segments_BW: Tensor,
        past_k_NFKPD: Tensor,
        past_v_NFKPD: Tensor,
        past_positions_FP: Tensor,
        past_segments_FP: Tensor,
        rows_BR: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The window pass: logits [B, R, V] of the asked rows, and the window's keys and values [N, B, K, W, D].

        The window's own rows are not in the past. With P = 0 it encodes a whole canvas. Segments say what a row
        sees (`visible_from_segments`); a model with full attention gets HOLE everywhere. Each past serves B / F rows
        that follow one another; a past whose keys and values have batch 1 serves all.
        """
        pasts, length = past_positions_FP.shape
        group = ids_BW.shape[0] // pasts
        past_positions_BP, past_segments_BP = (
            given_FP.unsqueeze(1).expand(pasts, group, length).reshape(pasts * group, length)
            for given_FP in (past_positions_FP, past_segments_FP)
        )
        visible = visible_from_segments(
            segments_BW,
            positions_BW,
            torch.cat([past_segments_BP, segments_BW], dim=1),
            torch.cat([past_positions_BP, positions_BW], dim=1),
        )
        if self.config.block_length is not None:
            all_positions_BT = torch.cat([past_positions_BP, positions_BW], dim=1)
            visible = visible & in_block_order(positions_BW, all_positions_BT, self.config.block_length)
        # finite, so that a row of padding that sees nothing gives numbers and not nan
        floor = torch.finfo(self.dtype).min / 2
        added = torch.zeros((), dtype=self.dtype, device=ids_BW.device).where(visible, floor)
        if length:
            if past_k_NFKPD.shape[1] != pasts:
                past_k_NFKPD = past_k_NFKPD.expand(-1, pasts, -1, -1, -1)
                past_v_NFKPD = past_v_NFKPD.expand(-1, pasts, -1, -1, -1)
            x_BWE, k, v = self.hidden(ids_BW, positions_BW, added, past_k_NFKPD, past_v_NFKPD, past_positions_FP)
        else:
            x_BWE, k, v = self.hidden(ids_BW, positions_BW, added)
        rows_BRE = rows_BR.unsqueeze(2).expand(-1, -1, x_BWE.shape[2])
        return self.lm_head(x_BWE.gather(1, rows_BRE)), k, v

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        segments: Tensor | None = None,
        rows: Tensor | None = None,
        **_ignored,
    ) -> MaskedLMOutput:
        """Raw logits [B, L, V], before any shift; with `rows` [R], of these rows of the flattened [B * L]: [R, V].

        `attention_mask` is [B, L] with 0 for padding (or boolean [B, 1, L, L]); without `position_ids`, positions
        then count from the first token that is not padding. `segments` [B, L] selects what a row sees (context_blind
        models); without it every row sees every other.
        """
        visible = None
        if position_ids is None:
            if attention_mask is not None and attention_mask.dim() == 2:
                position_ids = attention_mask.long().cumsum(-1) - 1
                position_ids = position_ids.masked_fill(attention_mask == 0, 1)
            else:
                position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)
                position_ids = position_ids.expand(input_ids.shape)
        if segments is not None:
            visible = visible_from_segments(segments, position_ids, segments, position_ids)
        if self.config.block_length is not None:
            ordered = in_block_order(position_ids, position_ids, self.config.block_length)
            visible = ordered if visible is None else visible & ordered
        if attention_mask is not None:
            if attention_mask.dim() == 2:
                present_BL = attention_mask.bool()
                pairs_BLL = present_BL.unsqueeze(2) & present_BL.unsqueeze(1)
            else:
                pairs_BLL = attention_mask.bool().squeeze(1)
            visible = pairs_BLL if visible is None else visible & pairs_BLL
        x_BLE, _, _ = self.hidden(input_ids, position_ids, visible)
        if rows is not None:
            return MaskedLMOutput(logits=self.lm_head(x_BLE.flatten(0, 1)[rows]))
        return MaskedLMOutput(logits=self.lm_head(x_BLE))
