"""The chat on the terminal, with its lines piped in."""

import io
import sys

import jax.numpy as jnp
import pytest

from jitune import interactive
from jitune.types import Pretrained, UserError
from tests.data import toy
from tests.generation import scripted as toys

CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def talk(monkeypatch, capsys):
    """Chats with a model whose every answer is `text`; returns (stdout, stderr, the prompts as texts)."""

    def run(lines, text="I am fine 🙂 [b]:smile:[/b]", *, template=CHAT, max_positions=500, **options):
        tokenizer, prompts = toy.make_tokenizer(chat_template=template), []
        config = toys.tiny(vocab_size=len(tokenizer))[2]
        config = config.replace(max_positions=max_positions, vocab_size=len(tokenizer))
        script = jnp.asarray([*tokenizer.encode(text), tokenizer.eos_token_id])
        real = interactive.stream

        def spy(model, params, tokenizer, tokens, **options):
            prompts.append(tokenizer.decode(tokens))
            model = toys.scripted(len(tokens), len(tokenizer))
            return real(model, params, tokenizer, tokens, **options)

        monkeypatch.setattr(interactive, "stream", spy)
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
        interactive.chat(Pretrained(None, script, tokenizer, config), max_new_tokens=40, **options)
        return (*capsys.readouterr(), prompts)

    return run


def turn(role, content):
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def test_turns_are_remembered_until_reset(talk):
    out, err, prompts = talk(["hello", "", "again", "/reset", "new", "/exit", "never"], "fine [b]:smile:")
    first = turn("user", "hello")
    then = first + turn("assistant", "fine [b]:smile:") + turn("user", "again")
    header = "<|im_start|>assistant\n"
    assert prompts == [first + header, then + header, turn("user", "new") + header]
    assert (out, err) == ("fine [b]:smile:\n" * 3, "")


def test_system_message_and_help(talk):
    out, err, prompts = talk(["/helpp", "hi"], "écoute 🙂", system="be brief")
    assert prompts == [turn("system", "be brief") + turn("user", "hi") + "<|im_start|>assistant\n"]
    assert out == "écoute 🙂\n" and interactive.HELP in err


def test_a_conversation_that_is_too_long_is_said_and_not_kept(talk):
    out, err, prompts = talk(["hello " * 300, "hi"])
    assert prompts == [turn("user", "hi") + "<|im_start|>assistant\n"]
    assert "leaves no room" in err.replace("\n", " ") and "/reset" in err and out.count("fine") == 1


def test_without_a_template_lines_are_continued(talk):
    out, _, prompts = talk(["the fox ", "/usr/bin is"], template=None)
    assert prompts == ["the fox ", "/usr/bin is"] and out.count("fine") == 2
    assert talk(["the fox"], raw=True)[2] == ["the fox"]
    with pytest.raises(UserError, match="system message needs a chat template"):
        talk(["hi"], template=None, system="be brief")


def test_interrupting_keeps_what_was_said(capsys):
    def pieces():
        yield "one "
        yield "two"
        raise KeyboardInterrupt

    from rich.console import Console

    assert interactive._show(Console(), pieces()) == "one two"
    assert capsys.readouterr().out == "one two (stopped)\n"
