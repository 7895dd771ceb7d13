"""A language model of random weights as a GGUF file: nothing to download, and every reply is arbitrary.

Its vocabulary is the words of this project's prompts, tools and tasks, so that what it writes into an argument is often
a name that means something there. Its chat template has tools (the form of Hermes and Qwen): a server that constrains
calls by their schemas makes each one well-formed.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import gguf
import numpy as np

ROOT = Path(__file__).parents[2]
WORDS = 500
CONTEXT = 65536
WIDTH, HIDDEN = 16, 32
CALL, CALLED, END = "<tool_call>", "</tool_call>", "<|im_end|>"
LEANING = {END: 1.2, '"': 1.6, "{": 0.7, "}": 1.6, "]": 0.6, "\n": -2.0, "\n\n": -2.0, " ": -2.0, "  ": -2.0}
"""How much likelier a token is than the others: texts, lists and replies come to an end."""
FOLLOWING = {"\n": {CALL: 3.2}, CALLED: {END: 2.0, CALL: 1.0}}
"""The same, right after a token: most replies are one call; some are text, some have several."""
ATTENTION = 3.0
"""How sharply it attends: what it writes depends on the last few turns, so that it does not repeat itself."""
MARK = 12.0
"""What every hidden state has at its first place, and those of ``FOLLOWING`` at one more: layers leave these places as
they are, so that the leanings are weights of the output."""

TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" + (tool | tojson) }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\n" }}
    {{- '<tool_call>{"name": <name>, "arguments": <JSON object>}</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.content %}
            {{- message.content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""


def write_model(path: Path, seed: int = 0) -> None:
    """Write a model of the llama architecture, one layer of ``WIDTH`` numbers, with weights drawn from ``seed``."""
    types, texts = zip(*_vocabulary(), strict=True)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(texts))
    writer.add_tokenizer_model("t5")  # the fewest pieces that make up a text: no merges have to be learnt
    writer.add_token_list([text.replace(" ", "▁") for text in texts])
    writer.add_token_types(list(types))
    writer.add_token_scores([-1.0] * len(texts))
    writer.add_unk_token_id(0)
    writer.add_eos_token_id(texts.index(END))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_remove_extra_whitespaces(False)
    writer.add_chat_template(TEMPLATE)
    for name, weights in _weights(texts, np.random.default_rng(seed)).items():
        writer.add_tensor(name, weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary() -> list[tuple[int, str]]:
    """Type and text of every token: the special ones, every printable ASCII character, words, and what JSON repeats."""
    kinds = gguf.TokenType
    special = [(kinds.UNKNOWN, "<unk>"), (kinds.CONTROL, "<|im_start|>"), (kinds.CONTROL, END)]
    special += [(kinds.USER_DEFINED, CALL), (kinds.USER_DEFINED, CALLED)]
    files = (path for room in ("prompts", "tools", "marl/tasks") for path in sorted((ROOT / room).rglob("*")))
    text = "".join(path.read_text() for path in files if path.suffix in (".md", ".py"))
    words = [word for word, _ in Counter(re.findall(r" ?[A-Za-z]{2,}", text)).most_common(WORDS)]
    digits = [f"{number:02}" for number in range(100)]
    json = ['": "', '", "', '": ', ', "', '"}', '{"', '": [', '": {"', "}, {", "], [", "\n\n", "  ", "0.", ", 0."]
    plain = dict.fromkeys(["\n", *map(chr, range(32, 127)), *json, *digits, *words])
    return special + [(kinds.NORMAL, each) for each in plain]


def _weights(texts: tuple[str, ...], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The tensors by name."""

    def drawn(rows: int, columns: int = WIDTH, scale: float = 1.0) -> np.ndarray:
        return rng.normal(0, scale / np.sqrt(columns), (rows, columns))

    embedding, output = rng.normal(size=(len(texts), WIDTH)), drawn(len(texts))
    attended, fed = drawn(WIDTH), drawn(WIDTH, HIDDEN)
    places = 1 + len(FOLLOWING)
    embedding[:, :places], output[:, :places], attended[:places], fed[:places] = 0, 0, 0, 0
    embedding[:, 0] = MARK
    for place, (before, leanings) in enumerate({None: LEANING, **FOLLOWING}.items()):
        if before is not None:
            embedding[texts.index(before), place] = MARK
        for text, leaning in leanings.items():
            output[texts.index(text), place] = leaning
    return {
        "token_embd.weight": embedding,
        "output_norm.weight": np.ones(WIDTH),
        "output.weight": output,
        "blk.0.attn_norm.weight": np.ones(WIDTH),
        "blk.0.attn_q.weight": drawn(WIDTH, scale=ATTENTION),
        "blk.0.attn_k.weight": drawn(WIDTH, scale=ATTENTION),
        "blk.0.attn_v.weight": drawn(WIDTH, scale=ATTENTION),
        "blk.0.attn_output.weight": attended,
        "blk.0.ffn_norm.weight": np.ones(WIDTH),
        "blk.0.ffn_gate.weight": drawn(HIDDEN),
        "blk.0.ffn_up.weight": drawn(HIDDEN),
        "blk.0.ffn_down.weight": fed,
    }
