"""Texts to token ids: the cuts of lm-evaluation-harness, conversations, windows of long texts."""

import pytest

from jitune.evals.engine import tokens
from jitune.evals.task import Generate, Rolling, Score, chat
from jitune.types import UserError
from tests.data import toy

CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
KINDS = {"bos": {"bos": "<bos>", "add_bos": True}, "idle_bos": {"bos": "<bos>"}, "eos": {}}
PAIRS = [
    ("the quick", " brown fox"),
    ("the quick ", "brown fox"),
    ("hello world,  \n ", "how are you"),
    ("the qu", "ick brown"),
    ("", "the user asks"),
    ("", "<bos>the user asks"),
    ("", "<|endoftext|>the user"),
    ("<bos>the user", " asks"),
    ("<|endoftext|>the user", " asks"),
    ("écoute 你", "好 世界 🙂"),
    ("two plus two is ", " four"),
    ("abc ", "\n\n"),
]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return toy.make_tokenizer(chat_template=CHAT, **KINDS[request.param])


def harness(tokenizer, limit=0):
    """What lm-evaluation-harness would score: a function of pairs of texts."""
    model = pytest.importorskip("lm_eval.api.model")

    class Recorder(model.TemplateLM):
        def tok_encode(self, string, add_special_tokens=None, **_):
            plain = add_special_tokens is False or string.startswith(tokenizer.decode(self.prefix_token_id))
            return tokenizer.encode(string, add_special_tokens=not plain)

        def _loglikelihood_tokens(self, requests, **_):
            return [(context, continuation) for _, context, continuation in requests]

        eot_token_id = property(lambda self: tokenizer.eos_token_id)
        bos = tokenizer.bos_token_id
        prefix_token_id = bos if bos is not None else tokenizer.eos_token_id
        loglikelihood_rolling = generate_until = None

    instance = pytest.importorskip("lm_eval.api.instance").Instance
    return lambda pairs: Recorder().loglikelihood([instance("loglikelihood", {}, p, 0) for p in pairs], True)


def test_pairs_are_those_of_the_harness(tokenizer):
    assert tokens.encode_pairs(tokenizer, [(*p, True) for p in PAIRS]) == harness(tokenizer)(PAIRS)


def test_white_space_goes_to_the_continuation_even_where_nothing_else_is_left(tokenizer):
    (context, continuation), bare = tokens.encode_pairs(tokenizer, [("  \n", "fox", True), ("", "  \nfox", True)])
    assert (context, continuation) == bare
    assert context == [tokens.prefix_token(tokenizer)] and tokenizer.decode(continuation) == "  \nfox"


def test_conversations_have_one_bos():
    tokenizer = toy.make_tokenizer(chat_template=CHAT, bos="<bos>", add_bos=True)
    bos = tokenizer.bos_token_id
    ((pair,),) = tokens.pairs_of(tokenizer, [Score(chat("hello"), "fine")], chat_template=None, limit=99)
    assert (pair[0] + pair[1]).count(bos) == 1
    whole = "<bos><|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine"
    assert tokenizer.decode(pair[0] + pair[1]) == whole and tokenizer.decode(pair[1]) == "\nfine"
    requests = [Generate(chat("hello", "be kind")), Generate("hello"), Generate(""), Generate("<bos>hello")]
    found = tokens.prompts_of(tokenizer, requests, chat_template=None)
    assert [ids.count(bos) for ids in found] == [1, 1, 1, 1]
    assert tokenizer.decode(found[0]).startswith("<bos><|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello")
    without = CHAT.removeprefix("{{ bos_token }}")
    assert bos not in tokens.prompts_of(tokenizer, requests[:1], chat_template=without)[0], "what the template writes"


def test_conversations_without_a_template():
    tokenizer = toy.make_tokenizer(bos="<bos>", add_bos=True)
    prompt = chat("hello", "be kind")
    assert tokens.render(tokenizer, prompt, "none") == "be kind\n\nhello\n"
    (ids,) = tokens.prompts_of(tokenizer, [Generate(prompt)], chat_template="none")
    assert tokenizer.decode(ids) == "<bos>be kind\n\nhello\n"
    with pytest.raises(UserError, match="no chat template.*none"):
        tokens.render(tokenizer, prompt)
    with pytest.raises(UserError, match="template failed"):
        tokens.render(tokenizer, prompt, "{{ raise_exception('no') }}")


def test_rolling_windows_are_those_of_the_harness():
    utils = pytest.importorskip("lm_eval.utils")
    for length in range(0, 40):
        for limit in (1, 2, 3, 7, 16, 40):
            ids = list(range(100, 100 + length))
            theirs = utils.get_rolling_token_windows(ids, prefix_token=1, max_seq_len=limit, context_len=1)
            theirs = [utils.make_disjoint_window(pair) for pair in theirs]
            assert tokens.rolling(ids, 1, limit) == theirs
            assert sum((c for _, c in theirs), []) == ids


def test_rolling_texts_begin_with_one_prefix_token(tokenizer):
    prefix, ids = tokens.prefix_token(tokenizer), tokenizer.encode("the user asks", add_special_tokens=False)
    for text in ("the user asks", tokenizer.decode(prefix) + "the user asks"):
        assert tokens.pairs_of(tokenizer, [Rolling(text)], chat_template=None, limit=2048) == [[([prefix], ids)]]
    with pytest.raises(UserError, match="Rolling.*no token"):
        tokens.pairs_of(tokenizer, [Rolling("")], chat_template=None, limit=9)
