//! Registries, of container images and of packages, as other programs' variables and files say.

use std::path::{Path, PathBuf};

use osvm_daemon::builder::{Files, Registries, Variables};
use osvm_daemon::images::{Access, Proxies, Trust};
use osvm_daemon::shim::ProxySettings;

use super::{proxies, user_home, variable};

/// How registries of container images are reached: with what Docker knows, through the host's own proxies.
pub(crate) fn of_images() -> Access {
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(user_home()?.join(".docker")));
    let folders = folder.iter().map(|folder| folder.join("certs.d"));
    let folders = folders.chain(["/etc/docker/certs.d".into()]).collect();
    let trust = Trust { host: trusted(), folders };
    let ProxySettings { http, https, all, no } = proxies();
    let given = |own: String| Some(own).filter(|url| !url.is_empty());
    let none = no.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let proxies = Proxies {
        https: given(https).or_else(|| given(all.clone())),
        http: given(http).or_else(|| given(all)),
        none: none.collect(),
    };
    let credentials = folder.map(|folder| folder.join("config.json"));
    let programs = variable("PATH").unwrap_or_default();
    Access { credentials, programs, trust, proxies, ..Access::default() }
}

/// Where packages come from: npm's and pip's variables and files, as those tools read them.
pub(crate) fn of_packages() -> Registries {
    let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
    let any = |names: &[&str]| names.iter().find_map(|name| text(name));
    let npmrc = any(&["NPM_CONFIG_USERCONFIG", "npm_config_userconfig"]).map(PathBuf::from);
    let npmrc = npmrc.or_else(|| Some(user_home()?.join(".npmrc")));
    let pip = any(&["PIP_CONFIG_FILE"]).map(PathBuf::from);
    let pips = [
        pip,
        user_home().map(|home| home.join(".config/pip/pip.conf")),
        user_home().map(|home| home.join(".pip/pip.conf")),
        Some("/etc/pip.conf".into()),
    ];
    let variables = Variables {
        npm: any(&["npm_config_registry", "NPM_CONFIG_REGISTRY"]),
        pypi: any(&["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]),
    };
    let files = Files {
        npmrc: npmrc.as_deref().and_then(written),
        pip: pips.iter().flatten().filter_map(|path| written(path)).collect(),
        ca: certificates(&any),
    };
    Registries::of(variables, &files)
}

/// What this host trusts, and what Node is told to trust besides.
fn certificates(any: &impl Fn(&[&str]) -> Option<String>) -> Option<String> {
    let more = any(&["NODE_EXTRA_CA_CERTS"]).and_then(|path| written(path.as_ref()));
    let all: Vec<_> = trusted().into_iter().chain(more).collect();
    Some(all.join("\n")).filter(|text| !text.is_empty())
}

/// What OpenSSL is told to trust, or what the distribution does.
fn trusted() -> Option<String> {
    let own = variable("SSL_CERT_FILE").and_then(|path| written(path.as_ref()));
    own.or_else(|| CERTIFICATES.iter().find_map(|path| written(path.as_ref())))
}

/// Where distributions keep the certificates that they trust.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A file's text, if there is one.
fn written(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
