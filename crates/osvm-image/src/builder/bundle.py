"""Installs what a bundle's project needs, as uv finds it in pyproject.toml, into the project's own environment."""

BUNDLE = "/mcpb"
PROJECT_VENV = BUNDLE + "/.venv"
UV_PROGRAM = "/usr/local/bin/uv"


def bundle(request, archive):
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(request["layer"]))) as files:
        files.extractall("/")
    if os.path.exists(BUNDLE + "/pyproject.toml"):
        sync(request)
        say("packing")
        compile_all(PROJECT_VENV + "/lib")
        add_folders(archive, BUNDLE.lstrip("/"), owner=SERVER)
        # What the bundle itself has there is of another machine.
        add_file(archive, PROJECT_VENV.lstrip("/") + "/.wh..wh..opq", b"")
        add_tree(archive, PROJECT_VENV)
    # Its server is started by it.
    add_folders(archive, "usr", "usr/local", "usr/local/bin")
    add_entry(archive, UV_PROGRAM)


def sync(request):
    """Projects and packages may run code to be built, and here nothing is told before: all of it is a stranger's."""
    say(f"uv: installing what {request['package']} needs")
    shutil.rmtree(PROJECT_VENV, ignore_errors=True)
    command = ["uv", "sync", "--no-dev", "--directory", BUNDLE, "--python", SYSTEM_PYTHON]
    command += ["--frozen"] if os.path.exists(BUNDLE + "/uv.lock") else ["--default-index", request["pypi_index"]]
    seconds = request["script_seconds"]
    status, _, said = start_stranger(command, BUNDLE, env=STRANGERS_ENVIRONMENT, seconds=seconds)
    if status is None:
        raise Failure(f"install what {request['package']} needs: it took over {seconds} s")
    if status != 0:
        raise Failure(pypi_failure(request, said))
    if not os.path.isdir(PROJECT_VENV) or os.path.islink(PROJECT_VENV):
        raise Failure(f"install what {request['package']} needs: {PROJECT_VENV} is no folder")


run(bundle)
