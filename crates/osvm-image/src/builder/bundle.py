"""Installs what a project of Python needs, a bundle's or one of the user's, into the project's own environment."""

UV_PROGRAM = "/usr/local/bin/uv"


def bundle(request, archive):
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(request["layer"]))) as files:
        files.extractall("/")
    folder = request["folder"]
    venv = folder + "/.venv"
    if install_needs(request, folder, venv):
        say("packing")
        compile_all(venv + "/lib")
        add_folders(archive, folder.lstrip("/"), owner=SERVER)
        # What the bundle itself has there is of another machine.
        add_file(archive, venv.lstrip("/") + "/.wh..wh..opq", b"")
        add_tree(archive, venv)
    if request["started_by_uv"]:
        add_folders(archive, "usr", "usr/local", "usr/local/bin")
        add_entry(archive, UV_PROGRAM)


def install_needs(request, folder, venv):
    """Whether there is an environment now. A bundle is a project, or it needs nothing."""
    project = folder + "/pyproject.toml"
    if os.path.exists(project) and (request["started_by_uv"] or "project" in tomllib.loads(read_text(project))):
        sync(request, folder)
    elif request["started_by_uv"]:
        return False
    else:
        install_requirements(request, folder, venv)
    if not os.path.isdir(venv) or os.path.islink(venv):
        raise Failure(f"install what {request['package']} needs: {venv} is no folder")
    return True


def sync(request, folder):
    say(f"uv: installing what {request['package']} needs")
    shutil.rmtree(folder + "/.venv", ignore_errors=True)
    command = ["uv", "sync", "--no-dev", "--directory", folder, "--python", SYSTEM_PYTHON]
    command += ["--frozen"] if os.path.exists(folder + "/uv.lock") else ["--default-index", request["pypi_index"]]
    # A bundle's server is started where its source is; of a project, the environment is all that is kept.
    command += [] if request["started_by_uv"] else ["--no-editable"]
    run_uv(request, folder, command)


def install_requirements(request, folder, venv):
    say(f"uv: installing the requirements of {request['package']}")
    run_uv(request, folder, ["uv", "venv", "--no-project", "--python", SYSTEM_PYTHON, venv])
    command = ["uv", "pip", "install", "--python", venv + "/bin/python", "--directory", folder]
    run_uv(request, folder, [*command, "--default-index", request["pypi_index"], "--requirements", "requirements.txt"])


def run_uv(request, folder, command):
    """Projects and packages may run code to be built, and here nothing is told before: all of it is a stranger's."""
    seconds = request["script_seconds"]
    status, _, said = start_stranger(command, folder, env=STRANGERS_ENVIRONMENT, seconds=seconds)
    if status is None:
        raise Failure(f"install what {request['package']} needs: it took over {seconds} s")
    if status != 0:
        raise Failure(pypi_failure(request, said))
    say_yanked(said)


run(bundle)
