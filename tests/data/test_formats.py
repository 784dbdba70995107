"""Formats: a table of rows and the exact examples they become, and a table of rows that are refused."""

import collections
import json
import sys
from pathlib import Path

import numpy
import pytest

from jitune.data.formats import FORMATS, detect, load_format, to_example
from jitune.data.sources import read_rows
from jitune.types import Example, UserError

DATA = Path(__file__).parents[2].parent / "shared" / "data"
AT = ("f.jsonl", 7)


def say(role: str, content: str = "", **more) -> dict:
    return {"role": role, "content": content, **more}


def call(name: str, arguments: dict, **more) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


HI = (say("user", "hi"), say("assistant", "yo"))
ADD = {"name": "add", "description": "Add.", "parameters": {"type": "object", "properties": {}}}
ADD_TOOL = {"type": "function", "function": ADD}
CALL = {"name": "add", "arguments": {"a": 2, "b": None}}
CALLED = call("add", {"a": 2, "b": None})

GOOD = [
    # alpaca
    ({"instruction": "Add", "input": "2 3", "output": "5"},
     Example((say("user", "Add\n\n2 3"), say("assistant", "5")))),
    ({"instruction": "hi", "input": "", "output": "yo"}, Example(HI)),
    ({"instruction": "hi", "output": "yo", "text": "### hi ### yo", "id": 3}, Example(HI)),
    ({"instruction": "hi", "input": None, "output": "", "system": None, "history": None},
     Example((say("user", "hi"), say("assistant")))),
    ({"instruction": " hi\n", "input": " \n", "output": "yo "},
     Example((say("user", " hi\n"), say("assistant", "yo ")))),
    ({"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]], "tools": [ADD]},
     Example((say("system", "s"), say("user", "a"), say("assistant", "b"), say("user", "c"),
              say("assistant", "d")), (ADD_TOOL,))),
    # sharegpt
    ({"id": "x", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]},
     Example(HI)),
    ({"conversation": [say("user", "hi"), say("assistant", "yo")]}, Example(HI)),
    ({"conversations": [{"from": "gpt", "value": "yo"}]}, Example((HI[1],))),
    ({"conversations": [{"from": tag, "value": "x"} for tag in (
        "system", "user", "assistant", "chatgpt", "bing", "bard", "tool", "function_response")]},
     Example(tuple(say(role, "x") for role in ("system", "user", *["assistant"] * 4, "tool", "tool")))),
    ({"system": "s", "tools": json.dumps([ADD]), "conversations": [
        {"from": "human", "value": "hi"}, {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "2"}, {"from": "gpt", "value": "yo"}]},
     Example((say("system", "s"), HI[0], say("assistant", tool_calls=[CALLED]), say("tool", "2"), HI[1]),
             (ADD_TOOL,))),
    ({"conversations": [{"from": "function_call", "value": [CALL, {"name": "now", "arguments": ""}]}]},
     Example((say("assistant", tool_calls=[CALLED, call("now", {})]),))),
    ({"system": "s", "conversations": [{"from": "human", "value": "hi", "weight": None},
                                       {"from": "gpt", "value": "yo", "weight": 0}]},
     Example((say("system", "s"), *HI), message_weights=(None, None, 0.0))),
    # messages
    ({"messages": [say("user", "hi"), say("assistant", "yo")], "prompt": "hi", "source": "x"}, Example(HI)),
    ({"messages": [say("developer", "s"), say("user", "hi", name="Ann", id=4), say("assistant", "yo")]},
     Example((say("system", "s"), say("user", "hi", name="Ann"), HI[1]))),
    ({"messages": [say("user", "hi", loss_weight=0.0, tool_calls=None, images=[]),
                   say("assistant", "yo", loss_weight=0.5), say("assistant", "yo", train=True)]},
     Example((*HI, HI[1]), message_weights=(0.0, 0.5, 1.0))),
    ({"messages": [say("user", [{"type": "text", "text": "h", "value": None}, "i"]),
                   say("assistant", [{"type": "reasoning", "value": "Hm."}, {"type": "text", "value": "yo"},
                                     {"type": "tool_call", "value": json.dumps(CALL)},
                                     {"type": "tool_call", "value": CALL}])]},
     Example((HI[0], say("assistant", "yo", reasoning_content="Hm.", tool_calls=[CALLED, CALLED])))),
    ({"messages": [say("assistant", [{"type": "thinking", "thinking": "Hm."}])]},
     Example((say("assistant", reasoning_content="Hm."),))),
    ({"messages": [say("user", "hi"), say("assistant", "yo", thinking="Hm.", reasoning_content="")]},
     Example((HI[0], say("assistant", "yo", reasoning_content="Hm.")))),
    ({"messages": [say("assistant", None, tool_calls=[
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": null}'}}]),
        say("tool", "2", tool_call_id="c1", name="add")], "tools": [ADD_TOOL]},
     Example((say("assistant", tool_calls=[call("add", {"a": 2, "b": None}, id="c1")]),
              say("tool", "2", tool_call_id="c1", name="add")), (ADD_TOOL,))),
    ({"messages": [say("assistant", None, function_call=CALL), say("function", "2", name="add")],
      "functions": [ADD], "tools": None},
     Example((say("assistant", tool_calls=[CALLED]), say("tool", "2", name="add")), (ADD_TOOL,))),
    ({"messages": [say("user", "hi"), say("assistant", "yo")], "tools": "[]"}, Example(HI)),
    ({"messages": json.dumps(HI), "tools": [{"type": "function", **ADD}, json.dumps(ADD_TOOL)]},
     Example(HI, (ADD_TOOL, ADD_TOOL))),
    ({"messages": numpy.array([say("user", "hi"), say("assistant", "yo", weight=numpy.float32(1))])},
     Example(HI, message_weights=(None, 1.0))),
    # prompt and completion
    ({"prompt": "hi", "completion": " yo"}, Example(text=(("hi", 0.0), (" yo", 1.0)))),
    ({"prompt": "hi", "response": " yo", "completion": None, "tools": "[]"},
     Example(text=(("hi", 0.0), (" yo", 1.0)))),
    ({"prompt": [say("user", "hi")], "completion": [say("assistant", "yo")], "system": "s", "tools": [ADD]},
     Example((say("system", "s"), *HI), (ADD_TOOL,), (0.0, 0.0, None))),
    ({"prompt": [say("user", "hi", weight=1)], "completion": [say("assistant", "yo", weight=0.5)]},
     Example(HI, message_weights=(0.0, 0.5))),
    # text
    ({"text": "once", "url": "x", "messages": None}, Example(text=(("once", 1.0),))),
]


@pytest.mark.parametrize(("row", "expected"), GOOD)
def test_a_row_becomes_an_example(row, expected):
    before = repr(row)
    found = to_example(row, AT)
    assert found == Example(expected.messages, expected.tools, expected.message_weights, expected.text, AT)
    assert repr(row) == before


def chat(*items, **columns) -> dict:
    return {"messages": list(items), **columns}


KNOWN = ("known formats: messages (messages), sharegpt (conversations), sharegpt (conversation), alpaca "
         "(instruction, output), prompt_completion (prompt, completion), prompt_completion (prompt, "
         "response), prompt_completion (prompt_text, completion), text (text); rename columns with fields, or name a "
         "function of your own as module:function")
NEEDS = "a tool call must be an object with 'name' and 'arguments', got"
BAD = [
    ({"question": "a", "answer": "b"}, f"no known format: the row has keys ['question', 'answer']; {KNOWN}"),
    ({}, f"no known format: the row has keys []; {KNOWN}"),
    ({"messages": [], "chosen": [], "rejected": []}, "the row is a preference (chosen and rejected, or a "
     "true/false label), which would be ignored; the objectives dpo, simpo, orpo and kto learn from it; name the "
     "format to train on the rest all the same"),
    ({"prompt": "a", "completion": "b", "label": False}, "the row is a preference"),
    ({"instruction": "a", "output": None}, "'output' must be text, got null"),
    ({"instruction": 5, "output": "b"}, "'instruction' must be text, got 5"),
    ({"instruction": "a", "input": ["b"], "output": "c"}, "'input' must be text, got [\"b\"]"),
    ({"instruction": "a", "output": float("nan")}, "'output' must be text, got NaN"),
    ({"instruction": "a", "output": "cut \ud83d"}, "'output' holds half of a surrogate pair at character 5, "
     "as of an emoji that was cut in two"),
    ({"instruction": "a", "output": "b", "history": [["q"]]}, "'history' item 1 must be a pair [question, "
     'answer], got ["q"]'),
    ({"instruction": "a", "output": "b", "history": [["q", 1]]}, "'history' item 1 must be text, got 1"),
    ({"instruction": "a", "output": "b", "images": ["x"]}, "'images' is not supported: only text is trained"),
    ({"conversations": []}, "'conversations' is an empty list"),
    ({"conversations": "hi"}, "'conversations': not valid JSON, Expecting value: line 1 column 1 (char 0): "
     '"hi"'),
    ({"conversations": {"from": "human"}}, "'conversations' must be a list, got {\"from\": \"human\"}"),
    ({"conversations": [HI[0], {"from": "gpt"}]}, "'conversations' item 2: 'value' is missing"),
    ({"conversations": [{"from": "system", "value": "s"}], "system": "t"}, "two system prompts: the column "
     "'system' and the first of 'conversations'"),
    ({"messages": None}, "'messages' must be a list, got null"),
    (chat(), "'messages' is an empty list"),
    (chat(HI[0], say("assistant", None)), "'messages' item 2: 'content' is missing"),
    (chat(*HI, tools="[{"), "'tools': not valid JSON, Expecting property name"),
    (chat(*HI, tools=ADD), "'tools' must be a list, got"),
    (chat(*HI, tools=[{"type": "web_search"}]), "'tools' item 1 must be a function with a 'name', got "
     '{"type": "web_search"}'),
    (chat(*HI, functions=[{"description": "x"}]), "'functions' item 1 must be a function with a 'name', got"),
    ({"prompt": "a", "completion": ["b"]}, "'prompt' and 'completion' must both be text or both lists of "
     'messages, got "a" and ["b"]'),
    ({"prompt": "a", "response": None}, "'response' must be text, got null"),
    ({"prompt": "a", "completion": "b", "system": "s"}, "'system' and 'tools' have no place in a text "
     "prompt; write it as messages"),
    ({"prompt": [HI[0]], "completion": []}, "'completion' is an empty list"),
    ({"prompt": [HI[0]], "completion": [{"role": "x"}]}, "'completion' item 1: unknown role \"x\""),
    ({"text": None}, "'text' must be text, got null"),
    ({"text": b"bytes"}, "'text' must be text, got \"bytes\""),
]
BAD_MESSAGES = [
    ("hi", 'expected an object, got "hi"'),
    ({"content": "x"}, "'role' must be text, got null"),
    ({"role": ["user"], "content": "x"}, "'role' must be text, got [\"user\"]"),
    ({"from": "alien", "value": "x"}, 'unknown role "alien"; known are system, developer, user, human, '
     "assistant, gpt, chatgpt, bing, bard, function_call, tool, function, observation, function_response"),
    ({"from": "function_call", "value": "add(2)"}, "a tool call: not valid JSON, Expecting value: line 1 "
     'column 1 (char 0): "add(2)"'),
    ({"from": "function_call", "value": "{}"}, f"{NEEDS} {{}}"),
    ({"from": "function_call", "value": "[]"}, "'value' is missing"),
    ({"from": "function_call"}, f"{NEEDS} null"),
    (say("user", 5), "'content' must be text, got 5"),
    (say("user", [5]), "a content part of type 'text' must be text, got 5"),
    (say("user", []), "'content' is missing"),
    (say("assistant", None, tool_calls=[]), "'content' is missing"),
    (say("user", "x", images=["a"]), "'images' is not supported: only the text in 'content' is trained"),
    (say("assistant", None, audio={"id": 1}), "'audio' is not supported"),
    (say("assistant", None, refusal="No."), "'refusal' is not supported"),
    (say("user", "x", name=5), "'name' must be text, got 5"),
    (say("user", [{"type": ["text"], "text": "x"}]), "a content part of type [\"text\"] cannot be trained"),
    (say("user", "x", loss_weight=10**400), "'loss_weight' must be a number of 0 or more, got 1000000"),
    (say("user", "x", loss_weight="1"), "'loss_weight' must be a number of 0 or more, got \"1\""),
    (say("user", "x", weight=-1), "'weight' must be a number of 0 or more, got -1"),
    (say("user", "x", weight=float("nan")), "'weight' must be a number of 0 or more, got NaN"),
    (say("user", [{"type": "image_url", "image_url": {"url": "x"}}]), "a content part of type \"image_url\" "
     "cannot be trained; known are reasoning, thinking, text, tool_call"),
    (say("user", [{"type": "text"}]), "a content part of type 'text' must be text, got null"),
    (say("assistant", [{"type": "tool_call", "value": CALL}, "x"]), "content parts out of order: templates "
     "write reasoning, then text, then tool calls"),
    (say("user", [{"type": "reasoning", "value": "Hm."}]), "only an assistant calls tools and reasons, not "
     "the user"),
    (say("tool", "", tool_calls=[CALL]), "only an assistant calls tools and reasons, not the tool"),
    (say("assistant", "", tool_calls=["x"]), "a tool call: not valid JSON, Expecting value"),
    (say("assistant", "", tool_calls=[5]), f"{NEEDS} 5"),
    (say("assistant", "", tool_calls=[call("add", "{a: 2}")]), "the arguments of 'add': not valid JSON, "
     'Expecting property name enclosed in double quotes: line 1 column 2 (char 1): "{a: 2}"'),
    (say("assistant", "", tool_calls=[call("add", [2])]), "the arguments of 'add' must be an object, got "
     "[2]"),
]
BAD += [(chat(item), f"'messages' item 1: {message}") for item, message in BAD_MESSAGES]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_row_that_does_not_fit_is_an_error_with_file_and_row(row, message):
    with pytest.raises(UserError) as caught:
        to_example(row, AT)
    assert str(caught.value).startswith(f"f.jsonl:7: {message}")
    str(caught.value).encode()  # it can be printed


def test_long_values_are_cut_in_messages():
    with pytest.raises(UserError, match=r"'text' must be text, got \[0, 1, .{50,60}\.\.\.$"):
        to_example({"text": list(range(1000))}, AT)


@pytest.mark.parametrize(("row", "name"), [
    ({"messages": 1, "conversations": 1, "instruction": 1, "output": 1, "text": 1}, "messages"),
    ({"conversations": 1, "instruction": 1, "output": 1}, "sharegpt"),
    ({"instruction": 1, "output": 1, "prompt": 1, "completion": 1}, "alpaca"),
    ({"prompt": 1, "response": 1, "text": 1}, "prompt_completion"),
    ({"text": 1, "label": True}, "text"),
    ({"messages": None, "conversations": None, "text": "x"}, "text"),
    ({"messages": None, "id": 1}, "messages"),
])
def test_detection_goes_by_keys_in_order(row, name):
    assert detect(row) == name


def test_fields_rename_columns():
    row = {"question": "hi", "output": "not this", "answer": "yo", "id": 1}
    assert to_example(row, AT, fields={"instruction": "question", "output": "answer"}).messages == HI
    swapped = to_example({"output": "hi", "instruction": "yo"}, AT,
                         fields={"instruction": "output", "output": "instruction"})
    assert swapped.messages == HI
    with pytest.raises(UserError) as caught:
        to_example(row, AT, fields={"instruction": "query"})
    assert str(caught.value) == ("f.jsonl:7: fields: no column 'query'; the row has keys ['question', "
                                 "'output', 'answer', 'id']")


def test_a_named_format_is_not_detected():
    row = {"messages": HI, "instruction": "a", "output": "b", "chosen": "c", "rejected": "d"}
    assert to_example(row, AT, format="messages").messages == HI
    assert to_example(row, AT, format="alpaca").messages[0] == say("user", "a")
    for name, message in [("text", "'text' is missing; the row has keys ['messages', "),
                          ("sharegpt", "'conversations' is missing"),
                          ("alpacas", "unknown format 'alpacas'; known: auto, messages, sharegpt, alpaca, "
                           "prompt_completion, text, module:function")]:
        with pytest.raises(UserError) as caught:
            to_example(row, AT, format=name)
        assert str(caught.value).startswith(f"f.jsonl:7: {message}")


OWN = """
from jitune.types import Example, UserError

def good(row):
    return Example(text=((row["q"], 0.0), (row["a"], 1.0)))

def refuses(row):
    raise UserError("no thanks")

def both(row):
    return Example(messages=({"role": "user", "content": "x"},), text=(("x", 1.0),))

def weights(row):
    return Example(messages=({"role": "user", "content": "x"},), message_weights=())

def returns_none(row):
    pass
"""


def test_a_format_of_your_own_is_named_by_its_import_path(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    row = {"q": "hi", "a": "yo"}
    assert to_example(row, AT, format="own:good") == Example(text=(("hi", 0.0), ("yo", 1.0)), origin=AT)
    for format, given, message in [
        ("own:good", {"q": "hi"}, "format 'own:good': KeyError: 'a'"),
        ("own:refuses", row, "no thanks"),
        ("own:returns_none", row, "format 'own:returns_none' returned NoneType, not an Example"),
        ("own:both", row, "format 'own:both' must fill either messages or text"),
        ("own:weights", row, "format 'own:weights' gave 0 weights for 1 messages"),
        ("own:absent", row, "format 'own:absent' cannot be imported: module 'own' has no attribute 'absent'"),
        ("absent_own:f", row, "format 'absent_own:f' cannot be imported: No module named 'absent_own'"),
        (":f", row, "format ':f' cannot be imported: Empty module name"),
    ]:
        with pytest.raises(UserError) as caught:
            to_example(given, AT, format=format)
        assert str(caught.value) == f"f.jsonl:7: {message}"
    assert load_format("alpaca") is FORMATS["alpaca"]


def test_parquet_gives_the_same_examples_as_json_lines(tmp_path):
    import pyarrow
    import pyarrow.parquet

    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    rows = [chat(say("user", "hi"), tools=[tool]),
            chat(say("assistant", None, tool_calls=[call("add", {"a": 2})], loss_weight=0.5),
                 say("tool", "2", name="add"), tools=None),
            chat(say("assistant", None, tool_calls=[call("now", {"zone": "UTC"})]), tools=[])]
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    found = [[to_example(row, ("", at[1])) for row, at in read_rows(str(file))] for file in (lines, table)]
    assert found[0] == found[1]
    assert found[0][1].message_weights == (0.5, None)
    assert found[1][2].messages[0]["tool_calls"] == [call("now", {"zone": "UTC"})]
    frame = pyarrow.Table.from_pylist(rows).to_pandas()  # lists come as numpy arrays
    assert to_example(frame.iloc[0].to_dict(), AT).messages == (HI[0],)


real = pytest.mark.skipif(not DATA.is_dir(), reason="the real data files are not there")
ROLES = {
    "cherry_alpaca_5_percent.json": {"user": 3111, "assistant": 3111},
    "alpaca_en_demo.json": {"user": 999, "assistant": 999},
    "alpaca_zh_demo.json": {"user": 1000, "assistant": 1000},
    "glaive_toolcall_en_demo.json": {"user": 746, "assistant": 957, "tool": 211},
    "openai_messages_v1_sft_demo.jsonl": {"user": 500, "assistant": 500},
    "reason_tool_use_demo_50.jsonl": {"system": 50, "user": 70, "assistant": 112, "tool": 42},
    "identity.json": {"user": 91, "assistant": 91},
    "sharegpt_dummy_conversation.json": {"user": 1000, "assistant": 1000},
    "code_alpaca_2k.json": {"user": 2017, "assistant": 2017},
    "llms_from_scratch_instruction_data.json": {"user": 1100, "assistant": 1100},
}


@real
@pytest.mark.parametrize(("name", "roles"), ROLES.items())
def test_every_row_of_the_real_files_converts(name, roles):
    examples = [to_example(row, origin) for row, origin in read_rows(str(DATA / "sft" / name))]
    assert collections.Counter(m["role"] for example in examples for m in example.messages) == roles
    assert examples[-1].origin == (str(DATA / "sft" / name), len(examples))
    # Calls of tools without text, and two rows of one file whose output is empty.
    silent = {"reason_tool_use_demo_50.jsonl": 53, "glaive_toolcall_en_demo.json": 211,
              "code_alpaca_2k.json": 2}
    empty = [m for example in examples for m in example.messages if not m["content"]]
    assert len(empty) == silent.get(name, 0)


@real
def test_real_tool_calls_and_reasoning_are_kept():
    glaive = [to_example(*row) for row in read_rows(str(DATA / "sft/glaive_toolcall_en_demo.json"))]
    calls = [m["tool_calls"] for example in glaive for m in example.messages if "tool_calls" in m]
    assert len(calls) == 211 and sum(len(example.tools) for example in glaive) == 219
    assert calls[0] == [call("search_recipes", {"ingredients": ["chicken", "bell peppers", "rice"]})]
    reason = [to_example(*row) for row in read_rows(str(DATA / "sft/reason_tool_use_demo_50.jsonl"))]
    turns = [m for example in reason for m in example.messages if m["role"] == "assistant"]
    assert sum(len(m.get("tool_calls", ())) for m in turns) == 68
    assert sum("reasoning_content" in m for m in turns) == len(turns) == 112
    weighted = to_example(*read_rows(str(DATA / "sft/openai_messages_v1_sft_demo.jsonl"))[0])
    assert weighted.message_weights == (0.0, 1.0) and weighted.messages[0] == say("user", "hi")


@real
@pytest.mark.parametrize(("name", "count"), [("dpo_en_demo", 300), ("kto_en_demo", 300)])
def test_real_preferences_are_trained_on_only_when_the_format_is_named(name, count):
    rows = read_rows(str(DATA / "preference" / f"{name}.json"))
    with pytest.raises(UserError, match=f"{name}.json:1: the row is a preference"):
        to_example(*rows[0])
    format = "sharegpt" if "conversations" in rows[0][0] else "messages"
    assert len([to_example(*row, format=format) for row in rows]) == count
