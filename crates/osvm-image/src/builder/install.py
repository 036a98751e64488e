"""Installs one package, tells what it is before any of its code has run, then hands over the tree."""


def install(request, archive):
    root = {"npm": npm, "pypi": pypi}[request["ecosystem"]](request, archive)
    say("packing")
    add_folders(archive, "opt")
    add_tree(archive, root)


def tell(archive, entrypoint, env, packages, package):
    """The archive's first entry: what comes later may have been touched by the package's own code."""
    parts = [{key: part[key] for key in ("name", "version", "integrity")} for part in packages]
    answer = {"entrypoint": entrypoint, "env": env, "package": package, "packages": parts}
    add_file(archive, "installed.json", json.dumps(answer, separators=(",", ":")).encode())


run(install)
