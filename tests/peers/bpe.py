"""bpe.py tiktoken|tokenizers RANKS DOCUMENTS -- GPT-2 BPE of the documents (JSON Lines, "text") in one thread; only the
encoding is timed."""
import base64
import importlib.metadata
import json
import os
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from peer import serve

NAME, RANKS, DOCUMENTS = sys.argv[1:]
ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in open(RANKS))}
documents = [json.loads(line)["text"] for line in open(DOCUMENTS, encoding="utf-8")]
size = sum(len(d.encode()) for d in documents)


def with_tiktoken():
    import tiktoken

    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    encoding = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def merge(token):
    """The two tokens that became this one."""
    parts, end = [bytes([b]) for b in token], ranks[token]
    while len(parts) > 2:
        rank, i = min((ranks.get(a + b, end), i) for i, (a, b) in enumerate(zip(parts, parts[1:])))
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def with_tokenizers():
    from tokenizers import Tokenizer, models, pre_tokenizers

    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    letter = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(other)}
    word = lambda token: "".join(letter[b] for b in token)
    merges = [tuple(map(word, merge(t))) for t, _ in sorted(ranks.items(), key=lambda x: x[1]) if len(t) > 1]
    tokenizer = Tokenizer(models.BPE({word(t): r for t, r in ranks.items()}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: len(tokenizer.encode(text))


encode = {"tiktoken": with_tiktoken, "tokenizers": with_tokenizers}[NAME]()
serve(lambda: (size, {"tokens": sum(map(encode, documents))}), version=importlib.metadata.version(NAME))
