"""Installs a package of npm: without its scripts first, so that what it is gets told before it has run."""

PREFIX = "/opt/server"
MODULES = PREFIX + "/node_modules"
NODE_PROGRAM = "/usr/local/bin/node"
SCRIPTS = (".js", ".cjs", ".mjs")

ENVIRONMENT = {
    "HOME": SCRATCH,
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "NO_COLOR": "1",
    "CI": "1",
    "npm_config_cache": SCRATCH + "/npm",
    "npm_config_update_notifier": "false",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_progress": "false",
    "npm_config_omit": "dev",
    "npm_config_fetch_retry_mintimeout": "1000",
    "npm_config_fetch_retry_maxtimeout": "10000",
    "npm_config_fetch_timeout": "60000",
    # Among the programs of packages may be one that is called sh.
    "npm_config_script_shell": "/bin/sh",
    # Where node-gyp finds Node's headers; otherwise it would look for them at nodejs.org.
    "npm_config_nodedir": "/usr/local",
    "npm_package_config_node_gyp_nodedir": "/usr/local",
}


def npm(request, archive):
    wanted = request["package"]
    install_npm(request)
    own = own_manifest(wanted)
    packages = locked()
    say(f"npm: {len(packages)} packages fetched")
    entrypoint, env = npm_program(request["program"], own, packages)
    tell(archive, entrypoint, env, packages, {"name": own["name"], "version": own["version"]})
    shutil.rmtree(SCRATCH + "/npm", ignore_errors=True)
    run_scripts(request, packages)
    if not os.path.exists(entrypoint[-1]):
        raise Failure(f"find the program of {own['name']}: it has no {entrypoint[-1]}")
    return PREFIX


def install_npm(request):
    os.makedirs(PREFIX, exist_ok=True)
    with open(PREFIX + "/package.json", "w", encoding="utf-8") as file:
        file.write('{"private":true}\n')
    say(f"npm: installing {request['package']}")
    command = ["npm", "install", "--ignore-scripts", "--prefix", PREFIX, "--registry", request["npm_registry"]]
    settings = SCRATCH + "/npmrc"
    try:
        write_secret(settings, request.get("npmrc") or "")
        env = {**ENVIRONMENT, "npm_config_userconfig": settings}
        status, output, complaints = start([*command, "--", request["package"], *request["with"]], env=env)
    finally:
        # Before anything of the package runs: tokens are not its business.
        remove(settings)
    if status != 0:
        raise Failure(npm_failure(request, output + complaints))


def write_secret(path, text):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def remove(path):
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


def own_manifest(wanted):
    """The package.json of the package that was asked for."""
    name = wanted[: wanted.find("@", 1)] if "@" in wanted[1:] else wanted
    path = f"{MODULES}/{name}/package.json"
    try:
        return {"name": name, **json.loads(read_text(path))}
    except (OSError, ValueError) as error:
        raise Failure(f"read {path}: {error}") from error


def locked():
    """What was installed: each package of the lock file that is there, optional ones for other machines are not."""
    lock = json.loads(read_text(PREFIX + "/package-lock.json"))["packages"]
    packages = []
    for place, entry in sorted(lock.items()):
        if place and os.path.isdir(f"{PREFIX}/{place}") and not entry.get("link"):
            packages.append(
                {
                    "name": entry.get("name") or place.rpartition("node_modules/")[2],
                    "version": entry.get("version", ""),
                    # One that came inside of another package has none of its own.
                    "integrity": entry.get("integrity", ""),
                    "scripts": bool(entry.get("hasInstallScript")),
                }
            )
    return packages


def run_scripts(request, packages):
    scripts = [package["name"] for package in packages if package["scripts"]]
    if not scripts:
        return
    say(f"npm: running the install scripts of {', '.join(scripts)}")
    env = {**ENVIRONMENT, "npm_config_userconfig": "/dev/null", "npm_config_cache": SCRATCH + "/stranger/npm"}
    seconds = request["script_seconds"]
    command = ["npm", "rebuild", "--prefix", PREFIX, "--foreground-scripts"]
    status, output, complaints = start_stranger(command, PREFIX, env=env, seconds=seconds)
    if status is None:
        raise Failure(f"run the install scripts of {', '.join(scripts)}: they took over {seconds} s")
    if status != 0:
        raise Failure(script_failure(scripts, output, complaints))


# The program.


def npm_program(program, own, packages):
    """(entrypoint, environment)"""
    if program["kind"] == "module":
        raise Failure(f"start module {program['name']}: packages of npm have none")
    path = npm_bin(program, own)
    inside(path)
    replaceable = any(package["name"] == own["name"] and package["scripts"] for package in packages)
    if not os.path.exists(path):
        if replaceable:
            return [path], {}
        raise Failure(f"find the program of {own['name']}: it has no {path}")
    path = os.path.realpath(path)
    os.chmod(path, 0o755)
    # A script may put a compiled program in the place of the one in JavaScript.
    return ([path], {}) if replaceable else started_by(path)


def npm_bin(program, own):
    """As npx chooses: the only one, or the one named like the package."""
    bins = manifest_bins(own)
    if program["kind"] == "named":
        name = program["name"]
        link = f"{MODULES}/.bin/{name}"
        if name in bins:
            return f"{MODULES}/{own['name']}/{bins[name]}"
        if "/" not in name and os.path.lexists(link):
            return link
        raise Failure(f"find program {name} in {own['name']}: {has_programs(bins)}")
    if not bins:
        raise Failure(f"find a program in {own['name']}: it has none, it is a library")
    name = own["name"].rpartition("/")[2]
    if len(set(bins.values())) == 1:
        name = next(iter(bins))
    if name not in bins:
        raise Failure(f"choose a program of {own['name']}: {has_programs(bins)}; say which by --bin NAME")
    return f"{MODULES}/{own['name']}/{bins[name]}"


def manifest_bins(own):
    bins = own.get("bin") or {}
    if isinstance(bins, str):
        return {own["name"].rpartition("/")[2]: bins}
    if not bins and isinstance(own.get("directories"), dict) and own["directories"].get("bin"):
        folder = own["directories"]["bin"]
        path = f"{MODULES}/{own['name']}/{folder}"
        return {name: f"{folder}/{name}" for name in sorted(os.listdir(path))} if os.path.isdir(path) else {}
    return {name.rpartition("/")[2]: path for name, path in bins.items() if isinstance(path, str)}


def has_programs(bins):
    return f"it has {', '.join(sorted(bins))}" if bins else "it has none"


def inside(path):
    if not os.path.realpath(path).startswith(MODULES + "/"):
        raise Failure(f"start {os.path.normpath(path)}: it lies outside of {MODULES}")


def started_by(path):
    """By Node where the first line says so, else by itself."""
    with open(path, "rb") as file:
        first = file.readline(4096)
    if not first.startswith(b"#!"):
        return ([NODE_PROGRAM, path] if path.endswith(SCRIPTS) else [path]), {}
    words, env = interpreter(first[2:].decode(errors="replace"))
    if not words:
        return [path], {}
    if os.path.basename(words[0]) == "node":
        return [NODE_PROGRAM, *words[1:], path], env
    if shutil.which(words[0], path=ENVIRONMENT["PATH"]) is None:
        raise Failure(f"start {path}: it is run by {words[0]}, which the image has not")
    return [path], {}


def interpreter(line):
    """The command of a first line, without `env`, and the variables that `env -S` sets."""
    program, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if os.path.basename(program) != "env":
        return [program, *([rest] if rest else [])], {}
    split = re.match(r"(-S|--split-string=?)\s*(.*)", rest)
    words = shlex.split(split[2]) if split else rest.split(maxsplit=1)
    env = {}
    while words and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", words[0]):
        name, _, env[name] = words.pop(0).partition("=")
    return words, env


# What npm says when it fails.

REASONS = {
    "EINTEGRITY": "the registry's file is not the one that its integrity names",
    "ENOSPC": "no space is left in the memory of the builder",
    "EBADPLATFORM": "it is not for Linux on x86_64",
    "ERESOLVE": "its peer dependencies contradict each other",
    "E401": "the registry wants a login",
    "E403": "the registry refuses it",
    "EUNSUPPORTEDPROTOCOL": "it asks for a package in a way that npm does not know",
    "ENOGIT": "one of its dependencies comes out of a Git repository, not from the registry",
    "128": "one of its dependencies comes out of a Git repository, not from the registry",
}
UNREACHABLE = (
    *("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND"),
    *("ERR_SOCKET_TIMEOUT", "ETIMEDOUT"),
)


def npm_failure(request, said):
    wanted, registry = request["package"], request["npm_registry"]
    lines = [line.removeprefix("npm error ") for line in said.splitlines() if line.startswith("npm error")]
    code = next((line.split()[1] for line in lines if re.match(r"code \S", line)), "")
    detail = next((line for line in lines if not re.match(r"(code|errno|syscall|type) ", line)), "")
    missing = re.search(r"'([^']+)' is not in this registry", said)
    version = re.search(r"No matching version found for (\S+)", said)
    if code == "E404":
        name = missing[1] if missing else wanted
        return f"install {wanted}: {registry} has no package {name.rpartition('@')[0] or name}"
    if code == "ETARGET" and version:
        return f"install {wanted}: {registry} has no version that is {version[1].rstrip('.')}"
    if code in UNREACHABLE or "CERT" in code:
        return f"install {wanted}: {registry} can't be reached ({detail or code})"
    if re.fullmatch(r"E5\d\d", code):
        return f"install {wanted}: {registry} answers {code[1:]}"
    sums = re.search(r"wanted (\S+) but got (\S+)\. ", said)
    if code == "EINTEGRITY" and sums:
        return f"install {wanted}: the integrity of a package is {sums[2]}, not {sums[1]}"
    if code in REASONS:
        return f"install {wanted}: {REASONS[code]} ({detail or code})"
    return f"install {wanted}: {detail or last_lines(said)}"


def script_failure(scripts, output, complaints):
    lines = [line.removeprefix("npm error").strip() for line in complaints.splitlines() if "npm error" in line]
    path = next((line for line in lines if line.startswith("path ")), "")
    code = next((line for line in lines if line.startswith("code ")), "").removeprefix("code ")
    name = path.rpartition("node_modules/")[2] or ", ".join(scripts)
    noise = re.compile(r"npm (error|warn|info)|gyp (info|http)|> ")
    words = [line for line in (output + "\n" + complaints).splitlines() if line.strip() and not noise.match(line)]
    return f"run the install script of {name}: {last_lines(chr(10).join(words)) or f'it ended with status {code}'}"
