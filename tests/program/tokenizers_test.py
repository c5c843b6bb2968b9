"""tokenizer.json against the `tokenizers` package: the same ids for every text, and the same text for every ids.

Runs in .venv-test (scripts/setup.sh --dev), which it starts by itself; without it the test is skipped. The environment
variable SWITCHYARD_TOKENIZER_LINES says how many lines each style gets; SWITCHYARD_TOKENIZER_TEXT may name a file of
further ones.
"""

import codecs
import json
import os
import random
import sys
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import setup_test_python  # noqa: E402

setup_test_python.enter(__file__)

from support import ProgramTest  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers  # noqa: E402
from tokenizers import pre_tokenizers as splits  # noqa: E402
from tokenizers import processors, trainers  # noqa: E402

LINES = int(os.environ.get("SWITCHYARD_TOKENIZER_LINES", "20000"))
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = sorted(splits.ByteLevel.alphabet())


def corpus():
    """Lines of this repository: English, C++, Python, tables."""
    files = [*(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "src/data").glob("*.cpp"), Path(__file__)]
    return [line for path in sorted(files) for line in path.read_text(encoding="utf-8").splitlines()]


CORPUS = corpus()


def random_characters(stream, count):
    """Characters of every plane; half of them from the first one."""
    found = []
    while len(found) < count:
        code = stream.randrange(0x3000) if stream.random() < 0.5 else stream.randrange(0x110000)
        if not 0xD800 <= code < 0xE000:
            found.append(chr(code))
    return "".join(found)


PIECES = [
    " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u200b", "\u200d", "\ufeff", "\u180e", "\x85", "\x00", "\x1f",
    "1", "42", "1234567", "٣", "½", "Ⅷ", "a", "É", "é", "e\u0301", "ﬁ", "ß", "İ", "ſ", "K", "'s", "'LL", "'ſ", "don't",
    "naïve", "漢字", "ひらがな", "한글", "ᄒ", "ᅡ", "ᆫ", "\u0345", "\u0323\u0307", "👩\u200d🚀", "🏽", "\U0001d54f", "▁",
    "Ġ", "##", "</w>", "<0x0A>", "<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "[MASK]", "[SEP]", "...", "_",
    "-", "“", "”", "。", "$", "+", "^", "`", "\ufffd", "\U000e0041", "\ue000", "\U0010ffff",
]  # fmt: skip


def some_line(stream, specials):
    kind = stream.random()
    if kind < 0.4:
        return stream.choice(CORPUS)
    if kind < 0.55:
        return random_characters(stream, stream.randint(1, 20))
    if kind < 0.6:
        return stream.choice(" \t\n0a9é漢") * stream.choice([1, 2, 3, 5, 17, 60, 300])
    parts = [stream.choice(PIECES) if stream.random() < 0.7 else stream.choice(specials) for _ in range(stream.randint(1, 12))]
    if stream.random() < 0.5:
        words = stream.choice(CORPUS).split(" ")
        parts += stream.sample(words, min(len(words), 4))
        stream.shuffle(parts)
    return "".join(parts)


def lines_for(specials, count):
    stream = random.Random(0)
    lines = [some_line(stream, specials) for _ in range(count)]
    further = os.environ.get("SWITCHYARD_TOKENIZER_TEXT")
    return lines + (Path(further).read_text(encoding="utf-8").split("\n") if further else [])


def trained_bpe(normalizer, pre_tokenizer, specials, size=2000, **settings):
    tokenizer = Tokenizer(models.BPE(**settings))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=BYTES, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return splits.Split(Regex(pattern), behavior, invert)


def byte_level(*steps):
    return splits.Sequence([*steps, splits.ByteLevel(add_prefix_space=False, use_regex=False)])


def template(tokenizer, single, specials):
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=single + " $B", special_tokens=[(name, tokenizer.token_to_id(name)) for name in specials]
    )
    return tokenizer


def gpt2():
    return trained_bpe(None, splits.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])


def llama3():
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    pattern = rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}|{TAIL}"
    tokenizer = trained_bpe(None, byte_level(split(pattern)), specials, ignore_merges=True)
    return template(tokenizer, "<|begin_of_text|> $A", ["<|begin_of_text|>"])


def qwen2():
    pattern = rf"{CONTRACTIONS}|{WORDS}|\p{{N}}|{TAIL}"
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = trained_bpe(normalizers.NFC(), byte_level(split(pattern)), specials)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def deepseek_v3():
    pattern = (
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
        r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    steps = [split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(pattern)]
    specials = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|endoftext|>"]
    return trained_bpe(None, byte_level(*steps), specials)


def deepseek_v1():
    steps = [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), splits.Digits(True)]
    return trained_bpe(normalizers.Sequence([]), byte_level(*steps), ["<|endoftext|>"])


def olmoe():
    tokenizer = trained_bpe(normalizers.NFC(), splits.ByteLevel(add_prefix_space=False), ["<|endoftext|>", "<|padding|>"])
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in range(24, 1, -1)])
    tokenizer.add_tokens([AddedToken("|||IP_ADDRESS|||", normalized=False), AddedToken("Day", single_word=True)])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])
    return tokenizer


def smollm():
    steps = [splits.Digits(individual_digits=True), splits.ByteLevel(add_prefix_space=False)]
    return trained_bpe(None, splits.Sequence(steps), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


def o200k():
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    pattern = (
        rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{CONTRACTIONS}?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return trained_bpe(None, byte_level(split(pattern, "removed", True)), ["<|endoftext|>"])


def mixtral():
    """A SentencePiece model as BPE over a whole text, with bytes to fall back to."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = splits.Metaspace()
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=2300, special_tokens=[*specials, *byte_tokens], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    file = json.loads(tokenizer.to_str())
    file["pre_tokenizer"] = None
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] in specials]
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return template(tokenizer, "<s> $A", ["<s>"])


def t5():
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = splits.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS[:3000], trainer)
    tokenizer.add_special_tokens([AddedToken(f"<extra_id_{i}>", lstrip=True, rstrip=True) for i in range(3)])
    return template(tokenizer, "$A </s>", ["</s>"])


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = splits.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=2000, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return template(tokenizer, "[CLS] $A [SEP]", ["[CLS]", "[SEP]"])


STYLES = {
    "gpt2": gpt2,
    "llama3": llama3,
    "qwen2": qwen2,
    "deepseek_v3": deepseek_v3,
    "deepseek_v1": deepseek_v1,
    "olmoe": olmoe,
    "smollm": smollm,
    "o200k": o200k,
    "mixtral": mixtral,
    "t5": t5,
    "bert": bert,
}
ENDED = {"t5", "bert"}  # their post-processor ends a text; here that is left to who makes documents


def pieces_visible(pre_tokenizer, normalizer=None):
    """A tokenizer whose ids tell every byte, and where a piece begins."""
    vocabulary = {"[UNK]": 0, "[SEP]": 1}
    for token in [*BYTES, *("##" + byte for byte in BYTES)]:
        vocabulary.setdefault(token, len(vocabulary))
    model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100000)
    tokenizer = Tokenizer(model)
    steps = [] if pre_tokenizer is None else [pre_tokenizer]
    tokenizer.pre_tokenizer = splits.Sequence([*steps, splits.ByteLevel(add_prefix_space=False, use_regex=False)])
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
SPLITS = {
    "digits": splits.Digits(False),
    "each digit": splits.Digits(True),
    "words": splits.Whitespace(),
    "white space": splits.WhitespaceSplit(),
    "bert": splits.BertPreTokenizer(),
    "metaspace": splits.Metaspace(),
    "metaspace first": splits.Metaspace(prepend_scheme="first"),
    "metaspace never": splits.Metaspace(prepend_scheme="never", split=False),
    "space in front": splits.ByteLevel(add_prefix_space=True),
    "delimiter": splits.CharDelimiterSplit("a"),
    **{f"punctuation {behavior}": splits.Punctuation(behavior) for behavior in BEHAVIORS},
    **{f"spaces {behavior}": split(r"\s|\d", behavior) for behavior in BEHAVIORS},
    **{f"inverted {behavior}": split(r"\s+|'s", behavior, True) for behavior in BEHAVIORS},
    **{f"text {behavior}": splits.Split(" ", behavior) for behavior in BEHAVIORS},
    "word characters": split(r"\w+|\W"),
    "word bounds": split(r"\b"),
    "lines": split(r"^.*$"),
    "repetitions": split(r"\p{L}{2}+|\d{,3}|a{|[\w\-]+?(?<=e)|\h{4}|(?m:x.)|(ab)\1|\x{e9}\u00c9?"),
    "nothing": split(r"(?=e)"),
}
NORMALIZERS = {
    "nfc": normalizers.NFC(),
    "nfd": normalizers.NFD(),
    "nfkc": normalizers.NFKC(),
    "nfkd": normalizers.NFKD(),
    "lowercase": normalizers.Lowercase(),
    "strip": normalizers.Strip(),
    "strip left": normalizers.Strip(left=True, right=False),
    "strip accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "bert": normalizers.BertNormalizer(),
    "bert cased": normalizers.BertNormalizer(lowercase=False, strip_accents=True),
    "nmt": normalizers.Nmt(),
    "replace": normalizers.Replace(Regex(r"\s+|e"), "--"),
    "replace text": normalizers.Sequence([normalizers.Replace(" ", "▁"), normalizers.Prepend("▁")]),
}


codecs.register_error("each", lambda error: ("\ufffd" * (error.end - error.start), error.end))


class SameAsThePackage(ProgramTest):
    def convert(self, tokenizer, lines, *options):
        path = self.folder / "tokenizer.json"
        tokenizer.save(str(path))
        (self.folder / "lines").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        done = self.switchyard("tokenize", f"huggingface:{path}", "lines", *options)
        found = done.stdout.split("\n")[:-1]
        self.assertEqual(len(found), len(lines))
        return found

    def ids_of(self, tokenizer, lines):
        found = self.convert(tokenizer, [json.dumps(line) for line in lines], "--json")
        return [[int(number) for number in line.split()] for line in found]

    def check(self, name, tokenizer, specials=("<|endoftext|>",), count=LINES // 10, drops_end=False):
        lines = lines_for(list(specials), count)
        wanted = [encoding.ids for encoding in tokenizer.encode_batch(lines)]
        if drops_end:
            wanted = [ids[:-1] for ids in wanted]
        found = self.ids_of(tokenizer, lines)
        wrong = [(line, a, b) for line, a, b in zip(lines, wanted, found) if a != b]
        if wrong:
            shown = "\n".join(f"{line!r}: {a} is {b}" for line, a, b in sorted(wrong, key=lambda w: len(w[0]))[:5])
            self.fail(f"{name}: {len(wrong)} of {len(lines)} lines differ\n{shown}")
        return wanted

    def check_decoding(self, tokenizer, wanted):
        stream = random.Random(1)
        size = tokenizer.get_vocab_size()
        wanted = wanted[: LINES // 2] + [[stream.randrange(size) for _ in range(8)] for _ in range(LINES // 4)]
        texts = self.convert(tokenizer, [" ".join(map(str, ids)) for ids in wanted], "--decode", "--json")
        for ids, text in zip(wanted, texts):
            self.assertEqual(json.loads(text), tokenizer.decode(ids), ids)

    def test_styles(self):
        for name, make in STYLES.items():
            with self.subTest(name):
                tokenizer = make()
                specials = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
                wanted = self.check(name, tokenizer, specials, LINES, name in ENDED)
                self.check_decoding(tokenizer, wanted)

    def test_in_a_run(self):
        self.prepare_tiny()
        path = self.folder / "tokenizers/tokenizer.json"
        path.parent.mkdir()
        gpt2().save(str(path))
        self.train("run", f"data.tokenizer=huggingface:{path}", "training.max_steps=3", "model.tie_word_embeddings=false")
        wanted = self.switchyard("generate", "run", "--prompt", "some words", "--seed", "3").stdout
        self.assertTrue(wanted.startswith("some words"))
        self.switchyard("export", "run", "--out", "hf")
        self.assertEqual((self.folder / "hf/tokenizer.json").read_bytes(), path.read_bytes())
        settings = json.loads((self.folder / "hf/tokenizer_config.json").read_text())
        self.assertEqual(settings["eos_token"], "<|endoftext|>")
        self.switchyard("import", "hf", "--out", "back")
        path.unlink()
        self.assertEqual(self.switchyard("generate", "back", "--prompt", "some words", "--seed", "3").stdout, wanted)
        (self.folder / "text").write_text("some words\n")
        for source in ("run", "back"):
            ids = self.switchyard("tokenize", source, "text").stdout
            (self.folder / "ids").write_text(ids)
            self.assertEqual(self.switchyard("tokenize", source, "ids", "--decode").stdout, "some words\n")
        (self.folder / "ids").write_text("1 x\n")
        self.assertIn("line 1 is '1 x'", self.switchyard("tokenize", "run", "ids", "--decode", expect=1).stderr)

    def test_bytes_that_are_not_utf8(self):
        tokenizer = gpt2()
        stream = random.Random(2)
        lines = [bytes(stream.choice(b"\xc3\xa9\xe6\xbc\xf0\x9f\xff\xed\xa0\x80ab ") for _ in range(12)) for _ in range(500)]
        tokenizer.save(str(self.folder / "tokenizer.json"))
        (self.folder / "lines").write_bytes(b"".join(line + b"\n" for line in lines))
        done = self.switchyard("tokenize", f"huggingface:{self.folder}/tokenizer.json", "lines")
        found = [[int(number) for number in line.split()] for line in done.stdout.split("\n")[:-1]]
        wanted = [tokenizer.encode(line.decode("utf-8", errors="each")).ids for line in lines]
        self.assertEqual(found, wanted)

    def test_splits(self):
        for name, pre_tokenizer in SPLITS.items():
            with self.subTest(name):
                self.check(name, pieces_visible(pre_tokenizer))

    def test_normalizers(self):
        for name, normalizer in NORMALIZERS.items():
            with self.subTest(name):
                self.check(name, pieces_visible(None, normalizer))


if __name__ == "__main__":
    unittest.main()
