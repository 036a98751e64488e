"""What of the scripts needs no registry. Put behind them, without their last lines."""


def refusal(work, *arguments):
    try:
        work(*arguments)
    except Failure as failure:
        return str(failure)
    raise AssertionError("it was not refused")


def first_lines():
    assert interpreter("/usr/bin/env node") == (["node"], {})
    assert interpreter(" /usr/bin/env -S node --a  --b\r") == (["node", "--a", "--b"], {})
    assert interpreter("/usr/bin/env -S A=b node") == (["node"], {"A": "b"})
    assert interpreter("/usr/bin/node --a") == (["/usr/bin/node", "--a"], {})
    assert interpreter("/bin/sh") == (["/bin/sh"], {})


def programs_of_npm():
    default, named = {"kind": "default"}, {"kind": "named", "name": "z"}
    one = {"name": "@s/a", "bin": "./x.js"}
    assert npm_bin(default, one) == f"{MODULES}/@s/a/./x.js"
    assert npm_bin(default, {"name": "a", "bin": {"b": "x", "c": "x"}}) == f"{MODULES}/a/x"
    assert npm_bin(default, {"name": "@s/a", "bin": {"a": "x", "c": "y"}}) == f"{MODULES}/@s/a/x"
    assert "say which by --bin NAME" in refusal(npm_bin, default, {"name": "a", "bin": {"b": "x", "c": "y"}})
    assert "it is a library" in refusal(npm_bin, default, {"name": "a"})
    assert refusal(npm_bin, named, one) == "find program z in @s/a: it has a"
    assert "lies outside" in refusal(inside, f"{MODULES}/a/../../../etc/passwd")


def failures_of_npm():
    asked = {"package": "a@9", "npm_registry": "https://r"}
    told = "npm error code E404\nnpm error 404 Not Found\nnpm error 404  'b@^1' is not in this registry.\n"
    assert npm_failure(asked, told) == "install a@9: https://r has no package b"
    told = "npm error code ETARGET\nnpm error notarget No matching version found for a@9.\n"
    assert npm_failure(asked, told) == "install a@9: https://r has no version that is a@9"
    assert npm_failure(asked, "npm error code E503\n") == "install a@9: https://r answers 503"
    told = "npm error code 1\nnpm error path /opt/server/node_modules/@s/b\n> install\nno compiler\n"
    assert script_failure(["c"], "", told) == "run the install script of @s/b: no compiler"


def wheels():
    major, minor = sys.version_info[:2]
    exact = f"cp{major}{minor}"
    best_first = [
        f"a-1-{exact}-{exact}-manylinux_2_34_x86_64.whl",
        f"a-1-{exact}-{exact}-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a-1-cp39-abi3-manylinux_2_34_x86_64.whl",
        "a-1-cp37-abi3-manylinux_2_34_x86_64.whl",
        "a-1-py3-none-manylinux_2_5_x86_64.whl",
        "a-1-py3-none-any.whl",
    ]
    assert sorted(best_first, key=rank, reverse=True) == best_first


def programs_of_pypi():
    own = {"name": "a-b"}
    assert choose_script({"kind": "default"}, own, ["a_b", "c"]) == "a_b"
    assert choose_script({"kind": "default"}, own, ["c"]) == "c"
    assert "it has c, d; say which" in refusal(choose_script, {"kind": "default"}, own, ["c", "d"])
    assert "by --module NAME" in refusal(choose_script, {"kind": "default"}, own, [])
    assert project_scripts(b'[project.scripts]\na = "a:b"\n[tool.poetry.scripts]\nc = "c:d"\n') == ["a", "c"]
    assert entry_points(b"[console_scripts]\nA-b = a:b\n[other]\nc = d\n") == ["A-b"]


def failures_of_uv():
    asked = {"package": "a", "pypi_index": "https://u:p@r/simple"}
    told = "error: No solution found\n  cause: Because a was not found in the package registry and you require a, we"
    assert pypi_failure(asked, told) == "install a: https://r/simple has no package a"
    told = "error: No solution found\n  cause: Because there is no version of a==9\n  and you require a==9, "
    told += "we can conclude that your requirements are unsatisfiable.\n\nhint: x"
    assert pypi_failure(asked, told) == "install a: there is no version of a==9 and you require a==9"


def pages_of_links():
    page = b'<a data-x="" href="../../f/a%2Bb-1.whl?x=1&amp;y=2#sha256=0">a+b</a><a href=\'/g/c.whl\'>c</a>'
    assert html_files(page) == {"a+b-1.whl": "../../f/a%2Bb-1.whl?x=1&y=2", "c.whl": "/g/c.whl"}


def secrets_in_addresses():
    plain, headers = credentials("https://u:p%40@h:8/simple")
    assert (plain, headers) == ("https://h:8/simple", {"Authorization": "Basic dTpwQA=="})
    assert credentials("https://h/simple") == ("https://h/simple", {})


first_lines()
programs_of_npm()
failures_of_npm()
wheels()
programs_of_pypi()
failures_of_uv()
pages_of_links()
secrets_in_addresses()
