"""A client made with the Python SDK: does what clients do with the server of `cargo xtask peers`, and writes what it
is told, one line of JSON for each step. Its argument is {"modern": BOOL, "command": [..]}, or with "url": "..",
"token": ".." instead of the command."""

import json
import os
import sys
import warnings

import anyio
import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

# It says what is no longer in the newest revision, and asks for it all the same.
warnings.simplefilter("ignore")

TASK = json.loads(sys.argv[1])
MODERN = TASK["modern"]
PATIENCE = 60
WATCHED = "test://watched-resource"

logged = []
updated = anyio.Event()
changed = anyio.Event()


async def sample(context, params):
    content = params.messages[0].content
    content = content[0] if isinstance(content, list) else content
    told = types.TextContent(type="text", text=f"asked: {content.text}")
    return types.CreateMessageResult(role="assistant", model="none", content=told)


def filled(fields):
    """A form, filled in by the types of its fields."""
    values = {"string": "Ada", "boolean": True, "integer": 1, "number": 1}

    def value(field):
        named = field.get("enum") or [one["const"] for one in field.get("oneOf", [])]
        return field.get("default", named[0] if named else values.get(field["type"]))

    return {name: value(field) for name, field in fields.items() if field["type"] != "array"}


async def elicit(context, params):
    return types.ElicitResult(action="accept", content=filled(params.requested_schema["properties"]))


async def roots(context):
    return types.ListRootsResult(roots=[types.Root(uri="file:///srv/peer", name="peer")])


async def log(params):
    logged.append(plain(params))


async def hear(message):
    if isinstance(message, types.ResourceUpdatedNotification):
        updated.set()
    if isinstance(message, types.ToolListChangedNotification):
        changed.set()


def plain(answer):
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    return answer


def transport():
    if "command" in TASK:
        command, *args = TASK["command"]
        server = StdioServerParameters(command=command, args=args, env=dict(os.environ))
        return stdio_client(server, errlog=open(os.devnull, "w"))
    headers = {"Authorization": f"Bearer {TASK['token']}"} if TASK.get("token") else {}
    timeout = httpx2.Timeout(PATIENCE)
    return streamable_http_client(TASK["url"], http_client=httpx2.AsyncClient(headers=headers, timeout=timeout))


def client():
    return Client(
        transport(),
        mode="auto" if MODERN else "legacy",
        client_info=types.Implementation(name="osvm-peer", version="1.0.0"),
        sampling_callback=sample,
        elicitation_callback=elicit,
        list_roots_callback=roots,
        logging_callback=log,
        log_level="info" if MODERN else None,
        message_handler=hear,
        read_timeout_seconds=PATIENCE,
    )


async def greeting(at):
    server = plain(at.server_info)
    return {"version": at.protocol_version, "server": server, "capabilities": plain(at.server_capabilities)}


async def progress(at):
    steps = []

    async def step(done, total, message):
        steps.append([done, total, message])

    told = await at.call_tool("test_tool_with_progress", {}, progress_callback=step)
    return {"steps": steps, "told": plain(told)}


async def logging(at):
    if not MODERN:
        await at.set_logging_level("info")
    logged.clear()
    await at.call_tool("test_tool_with_logging", {})
    return logged


async def cancel(at):
    """The call waits until its client has had enough of it; another tells that it has ended."""
    with anyio.CancelScope() as scope:

        async def begun(*_):
            scope.cancel()

        await at.call_tool("test_wait", {}, progress_callback=begun)
    ended = "given up" if scope.cancelled_caught else "answered"
    return {"ended": ended, "told": plain(await at.call_tool("test_cancelled", {}))}


async def resource_updated(at):
    if MODERN:
        async with at.listen(resource_subscriptions=[WATCHED]) as subscription:
            await at.call_tool("test_trigger_resource_change", {})
            return {"changed": (await anext(aiter(subscription))).uri}
    await at.subscribe_resource(WATCHED)
    await at.call_tool("test_trigger_resource_change", {})
    await updated.wait()
    await at.unsubscribe_resource(WATCHED)
    return {"changed": WATCHED}


async def tools_changed(at):
    if MODERN:
        async with at.listen(tools_list_changed=True) as subscription:
            await at.call_tool("test_trigger_tool_change", {})
            await anext(aiter(subscription))
            return "told"
    await at.call_tool("test_trigger_tool_change", {})
    await changed.wait()
    return "told"


def refused(asked):
    async def ask(at):
        try:
            await asked(at)
        except Exception as error:
            return {"code": getattr(error, "code", None) or error.error.code}
        return "answered"

    return ask


def tool(name, arguments={}):
    return f"tools/call {name}", lambda at: at.call_tool(name, arguments)


def read(uri):
    return f"resources/read {uri}", lambda at: at.read_resource(uri)


def prompt(name, arguments={}):
    return f"prompts/get {name}", lambda at: at.get_prompt(name, arguments)


def asks():
    if MODERN:
        rounds = ["elicitation", "sampling", "list_roots", "multi_round", "multiple_inputs"]
        return [tool(f"test_input_required_result_{what}") for what in rounds]
    return [
        tool("test_sampling", {"prompt": "Who?"}),
        tool("test_elicitation", {"message": "Who?"}),
        tool("test_elicitation_sep1034_defaults"),
    ]


COMPLETED = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")

STEPS = [
    ("connect", greeting),
    *([] if MODERN else [("ping", lambda at: at.send_ping())]),
    ("tools/list", lambda at: at.list_tools()),
    ("resources/list", lambda at: at.list_resources()),
    ("resources/templates/list", lambda at: at.list_resource_templates()),
    ("prompts/list", lambda at: at.list_prompts()),
    tool("test_simple_text"),
    tool("test_multiple_content_types"),
    tool("test_error_handling"),
    tool("test_custom_header", {"region": "eu"}),
    ("tools/call of none", refused(lambda at: at.call_tool("test_none", {}))),
    read("test://static-text"),
    read("test://static-binary"),
    read("test://template/7/data"),
    ("resources/read of none", refused(lambda at: at.read_resource("test://none"))),
    prompt("test_simple_prompt"),
    prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"}),
    ("completion/complete", lambda at: at.complete(COMPLETED, {"name": "arg1", "value": "par"})),
    ("progress", progress),
    ("logging", logging),
    ("cancellation", cancel),
    *asks(),
    ("resource updated", resource_updated),
    ("tool list changed", tools_changed),
]


async def take(name, step, at):
    try:
        with anyio.fail_after(PATIENCE):
            seen = {"answer": plain(await step(at))}
    except Exception as error:
        seen = {"failed": str(error) or type(error).__name__}
    print(json.dumps({"step": name, **seen}), flush=True)


async def main():
    async with client() as at:
        for name, step in STEPS:
            await take(name, step, at)


anyio.run(main)
