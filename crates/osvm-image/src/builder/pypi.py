"""Installs a package of PyPI: resolved and told before any of its code has run."""

import configparser
import glob
import tomllib

VENV = "/opt/server/venv"
PYTHON = VENV + "/bin/python"
# The image's own, which is there when the server runs, too.
SYSTEM_PYTHON = "/usr/bin/python3"
LOCK = SCRATCH + "/pylock.toml"
UV_CACHE = SCRATCH + "/uv"

UV_ENVIRONMENT = {
    "HOME": SCRATCH,
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "NO_COLOR": "1",
    "UV_NO_PROGRESS": "1",
    "UV_NO_CONFIG": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_CACHE_DIR": UV_CACHE,
}
STRANGERS_ENVIRONMENT = {**UV_ENVIRONMENT, "UV_CACHE_DIR": SCRATCH + "/stranger/uv"}


def pypi(request, archive):
    check_python(request.get("python"))
    lock(request)
    packages = chosen()
    say(f"pypi: {len(packages)} packages found")
    make_venv()
    install_wheels(request, [package for package in packages if not package["source"]])
    own = own_package(request["package"], packages)
    entrypoint = pypi_program(request["program"], own)
    tell(archive, entrypoint, {}, packages, {"name": own["name"], "version": own["version"]})
    build(request, [package for package in packages if package["source"]])
    shutil.rmtree(UV_CACHE, ignore_errors=True)
    if len(entrypoint) == 2 and not os.path.exists(entrypoint[1]):
        raise Failure(f"find the program of {own['name']}: it has no {entrypoint[1]}")
    compile_all(VENV + "/lib")
    return "/opt/server"


def check_python(wanted):
    found = ".".join(map(str, sys.version_info[:3]))
    if wanted and (found + ".").find(wanted.rstrip(".") + ".") != 0:
        raise Failure(f"install for Python {wanted}: the image has Python {found}")


def lock(request):
    """Resolves. First without building anything; where that is not enough, builds run as a user with no rights."""
    say(f"pypi: resolving {request['package']}")
    status, said = resolve(request, "--no-build")
    if status != 0 and needs_build(said):
        say("pypi: resolving again, building what has no wheel")
        status, said = resolve(request, run=start_stranger)
    if status != 0:
        raise Failure(pypi_failure(request, said))
    say_yanked(said)


def say_yanked(said):
    """A version that was taken back is installed where nothing else will do: whoever asked for it is told."""
    for line in said.splitlines():
        if line.startswith("warning: ") and " is yanked" in line:
            say(line)


def resolve(request, *options, run=start):
    """The lock file comes on the output: a builder of packages has no right to write one."""
    wanted = write_readable("wanted.txt", "\n".join([request["package"], *request["with"]]) + "\n")
    command = ["uv", "pip", "compile", wanted, "--python", SYSTEM_PYTHON, "--default-index", request["pypi_index"]]
    command += ["--format", "pylock.toml", *options]
    env = UV_ENVIRONMENT if run is start else STRANGERS_ENVIRONMENT
    status, output, said = run(command, env=env, seconds=request["script_seconds"])
    if status == 0:
        write_readable("pylock.toml", output)
    return status, said


def write_readable(name, text):
    path = os.path.join(SCRATCH, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o644)
    return path


def needs_build(said):
    return any(sign in said for sign in ("no usable wheels", "--no-build", "building source distributions is disabled"))


# One file of each package: what is told is what is installed.


def chosen():
    """The packages of the lock file, each with the one file that it is installed from."""
    with open(LOCK, "rb") as file:
        locked = tomllib.load(file)
    return [choose(package) for package in locked.get("packages", [])]


def choose(package):
    """The best wheel; uv has left only those that fit this machine."""
    wheels = sorted(package.get("wheels", []), key=lambda wheel: rank(file_name(wheel["url"])), reverse=True)
    file = wheels[0] if wheels else package.get("sdist")
    if file is None:
        raise Failure(f"install {package['name']}: it comes from elsewhere than the index")
    digest = file.get("hashes", {}).get("sha256")
    if not digest:
        raise Failure(f"trust {file['url']}: the index tells no SHA-256 of it")
    return {
        "name": package["name"],
        "version": package.get("version", ""),
        "integrity": f"sha256:{digest}",
        "url": file["url"],
        "source": not wheels,
    }


def rank(name):
    """Made for this Python before any Python, for a newer C library before an older one, with code before without."""
    tags = name.removesuffix(".whl").split("-")
    python, abi, platform = tags[-3:]
    major, minor = sys.version_info[:2]
    exact = abi.startswith(f"cp{major}{minor}")
    versions = [int(number) for number in re.findall(r"[cp][py]3(\d+)", python)]
    glibc = [(int(a), int(b)) for a, b in re.findall(r"manylinux_(\d+)_(\d+)", platform)]
    return exact, abi == "abi3", max(versions, default=0), platform != "any", max(glibc, default=(0, 0)), name


def install_wheels(request, packages):
    if packages:
        command = [*uv_install(request, packages), "--no-build"]
        check_installed(request, packages, start(command, env=UV_ENVIRONMENT))


def build(request, packages):
    if packages:
        say(f"pypi: building {names(packages)}")
        command, seconds = uv_install(request, packages), request["script_seconds"]
        told = start_stranger(command, VENV, env=STRANGERS_ENVIRONMENT, seconds=seconds)
        check_installed(request, packages, told)


def uv_install(request, packages):
    only = write_readable("pylock.only.toml", "".join(locked_text(packages)))
    command = ["uv", "pip", "install", "--quiet", "--no-deps", "--python", PYTHON]
    return [*command, "--default-index", request["pypi_index"], "--requirements", only]


def check_installed(request, packages, told):
    status, _, said = told
    if status is None:
        raise Failure(f"build {names(packages)}: it took over {request['script_seconds']} s")
    if status != 0:
        raise Failure(pypi_failure(request, said))


def locked_text(packages):
    yield 'lock-version = "1.0"\ncreated-by = "osvm"\n'
    for package in packages:
        digest = package["integrity"].removeprefix("sha256:")
        file = f"{{ url = {json.dumps(package['url'])}, hashes = {{ sha256 = {json.dumps(digest)} }} }}"
        yield f"\n[[packages]]\nname = {json.dumps(package['name'])}\nversion = {json.dumps(package['version'])}\n"
        yield f"sdist = {file}\n" if package["source"] else f"wheels = [{file}]\n"


def names(packages):
    return ", ".join(package["name"] for package in packages)


def make_venv():
    command = ["uv", "venv", "--quiet", "--no-project", "--python", SYSTEM_PYTHON, VENV]
    status, _, said = start(command, env=UV_ENVIRONMENT)
    if status != 0:
        raise Failure(f"make {VENV}: {last_lines(said)}")
    # What shells are given to get into it: a server is started by its path.
    for path in {*glob.glob(VENV + "/bin/*activate*"), *glob.glob(VENV + "/bin/*.bat")}:
        os.remove(path)


# The program.


def own_package(wanted, packages):
    name = normal(re.match(r"[A-Za-z0-9._-]+", wanted)[0])
    for package in packages:
        if normal(package["name"]) == name:
            return package
    raise Failure(f"find {name} among the installed packages: it is not there")


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pypi_program(program, own):
    if program["kind"] == "module":
        return [PYTHON, "-m", program["name"]]
    scripts = source_scripts(own) if own["source"] else wheel_scripts(own)
    name = choose_script(program, own, scripts)
    path = f"{VENV}/bin/{name}"
    if own["source"] and name in scripts:
        return [PYTHON, path]
    with open(path, "rb") as file:
        first = file.readline(4096)
    is_python = first.startswith(b"#!") and b"/python" in first
    return [PYTHON, path] if is_python else [path]


def choose_script(program, own, scripts):
    if program["kind"] == "named":
        name = program["name"]
        if name in scripts or ("/" not in name and os.path.isfile(f"{VENV}/bin/{name}")):
            return name
        raise Failure(f"find program {name} in {own['name']}: {has_scripts(scripts)}")
    if not scripts:
        raise Failure(f"find a program in {own['name']}: it has none; a module of it is started by --module NAME")
    same = [name for name in scripts if normal(name) == normal(own["name"])]
    if not same and len(scripts) > 1:
        raise Failure(f"choose a program of {own['name']}: {has_scripts(scripts)}; say which by --bin NAME")
    return (same or scripts)[0]


def has_scripts(scripts):
    return f"it has {', '.join(sorted(scripts))}" if scripts else "it has none"


def wheel_scripts(own):
    """What the package has put among the programs, by its own list of files."""
    for folder in site_packages():
        record = os.path.join(folder, "RECORD")
        name = os.path.basename(folder).partition("-")[0]
        if normal(name) == normal(own["name"]) and os.path.exists(record):
            files = [line.partition(",")[0] for line in read_text(record).splitlines()]
            return sorted(file.rpartition("/")[2] for file in files if re.fullmatch(r"(\.\./)+bin/[^/]+", file))
    return []


def site_packages():
    major, minor = sys.version_info[:2]
    folder = f"{VENV}/lib/python{major}.{minor}/site-packages"
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".dist-info")]


def source_scripts(own):
    """What the source says that its programs will be: to build it is to run it."""
    content = fetch(own["url"], f"{own['name']} {own['version']}")[0]
    if "sha256:" + hashlib.sha256(content).hexdigest() != own["integrity"]:
        raise Failure(f"trust {own['url']}: its SHA-256 is not {own['integrity']}")
    scripts = set()
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        for member in files:
            if member.isreg() and member.name.count("/") == 1 and member.name.endswith("/pyproject.toml"):
                scripts.update(project_scripts(files.extractfile(member).read()))
            elif member.isreg() and member.name.endswith(".egg-info/entry_points.txt"):
                scripts.update(entry_points(files.extractfile(member).read()))
    return sorted(scripts)


def project_scripts(content):
    project = tomllib.loads(content.decode(errors="replace"))
    poetry = project.get("tool", {}).get("poetry", {})
    return [*project.get("project", {}).get("scripts", {}), *poetry.get("scripts", {})]


def entry_points(content):
    parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(content.decode(errors="replace"))
    return list(parser["console_scripts"]) if parser.has_section("console_scripts") else []


# What uv says when it fails.


def pypi_failure(request, said):
    wanted, index = request["package"], credentials(request["pypi_index"])[0]
    flat = re.sub(r"\s+", " ", said)
    absent = re.search(r"Because (\S+) was not found in the package registry", flat)
    digest = re.search(r"[Hh]ash mismatch for `?([^`]+)`?", flat)
    answer = re.search(r"HTTP status \S+ error \((\d+ [^)]+)\)", flat)
    if absent:
        return f"install {wanted}: {index} has no package {absent[1]}"
    if digest:
        return f"install {wanted}: a file's SHA-256 is not the one that the index tells ({digest[1]})"
    if "No space left" in flat:
        return f"install {wanted}: no space is left in the memory of the builder"
    if answer:
        return f"install {wanted}: {index} answers {answer[1]}"
    if "client error" in flat or "Failed to fetch" in flat or "timed out" in flat:
        return f"install {wanted}: {index} can't be reached ({reason(said)})"
    return f"install {wanted}: {reason(said)}"


def reason(said):
    """The last of the causes; of a build its last lines, which the builder itself has written."""
    said = said.partition("\nhint: ")[0]
    output = re.search(r"\[stderr\]\n(.*)", said, re.DOTALL)
    if output:
        return last_lines(output[1])
    last = re.split(r"(?:^|\n)\s*(?:error|cause|Caused by): ", said)[-1]
    last = re.sub(r"\s+", " ", last).strip()
    last = re.sub(r",? we can conclude that your requirements are unsatisfiable\.$", "", last)
    return last.removeprefix("Because ")
