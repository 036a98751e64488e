//! Where packages come from, and what of it a build's VM is told and granted.

use hyper::Uri;
use osvm_image::builder;
use osvm_spec::{HostRule, Hosts};

use crate::api::{ApiError, ErrorKind};

/// The registries of the user's own configuration, or the public ones, as a guest sees them.
#[derive(Debug, Clone)]
pub struct Registries {
    /// URL of npm's registry.
    npm: String,
    /// URL of PyPI's simple index.
    pypi: String,
    /// Lines of an `.npmrc` that name registries of scopes, and hold tokens.
    npmrc: Option<String>,
    /// Certificates that this host trusts, as PEM.
    ca: Option<String>,
}

const NPM: &str = "https://registry.npmjs.org/";
const PYPI: &str = "https://pypi.org/simple/";
/// Where PyPI keeps what its index names, and most mirrors of it do.
const PYPI_FILES: &str = "files.pythonhosted.org";

/// What variables say.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    pub npm: Option<String>,
    pub pypi: Option<String>,
}

/// What files say, each whole.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub npmrc: Option<String>,
    /// pip's, the strongest first.
    pub pip: Vec<String>,
    pub ca: Option<String>,
}

impl Registries {
    /// Variables are stronger than files.
    pub fn of(variables: Variables, files: &Files) -> Self {
        let lines = || files.npmrc.iter().flat_map(|text| text.lines()).map(str::trim);
        let kept: Vec<_> = lines().filter(|line| is_of_registry(line)).collect();
        let pip = files.pip.iter().find_map(|text| setting(text.lines(), "index-url"));
        let npm = variables.npm.or_else(|| setting(lines(), "registry"));
        let npmrc = Some(kept.join("\n")).filter(|text| !text.is_empty());
        Self {
            npm: in_guest(npm.as_deref().unwrap_or(NPM)),
            pypi: in_guest(variables.pypi.or(pip).as_deref().unwrap_or(PYPI)),
            npmrc: npmrc.as_deref().map(in_guest),
            ca: files.ca.clone(),
        }
    }

    pub(super) fn for_scripts(&self) -> builder::Registries<'_> {
        builder::Registries { npm: &self.npm, pypi: &self.pypi, ca: self.ca.as_deref() }
    }

    /// Certificates to trust, as PEM.
    pub(super) fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    pub(super) fn npmrc(&self) -> Option<&str> {
        self.npmrc.as_deref()
    }

    /// What a build may reach: these, and nothing else.
    pub(super) fn hosts(&self) -> Result<Hosts, ApiError> {
        let files = format!("https://{PYPI_FILES}/");
        let all = [self.npm.as_str(), &self.pypi, &files].into_iter().chain(self.scoped());
        Ok(granted(all.map(rule).collect::<Result<_, _>>()?))
    }

    /// `@scope:registry=URL`
    fn scoped(&self) -> impl Iterator<Item = &str> {
        let lines = self.npmrc.iter().flat_map(|text| text.lines());
        lines.filter_map(|line| Some(line.split_once(":registry=")?.1.trim()))
    }
}

/// `@scope:registry=URL` and `//HOST/:_authToken=TOKEN`; nothing that names files or programs.
fn is_of_registry(line: &str) -> bool {
    line.starts_with('@') && line.contains(":registry=") || line.starts_with("//")
}

/// The last `key = value`, without quotes.
fn setting<'a>(lines: impl Iterator<Item = &'a str>, key: &str) -> Option<String> {
    let value = |line: &'a str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    };
    lines.filter_map(value).last().filter(|value| !value.is_empty())
}

/// What a build may reach. Networks have mirrors of their own, also under the public names.
pub(super) fn granted(rules: Vec<HostRule>) -> Hosts {
    let is_self = |rule: &HostRule| rule.host.has_name(HostRule::SELF);
    let (allow, allow_private) = rules.into_iter().partition(is_self);
    Hosts { allow, allow_private }
}

fn rule(url: &str) -> Result<HostRule, ApiError> {
    let wrong = || ApiError::new(ErrorKind::Usage, format!("registry {url} has no address"));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?;
    let port = match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("http")) => 80,
        (None, _) => 443,
    };
    format!("{host}:{port}").parse().map_err(|_| wrong())
}

fn in_guest(url: &str) -> String {
    let loopbacks = ["127.0.0.1", "localhost", "[::1]"];
    loopbacks.iter().fold(url.to_owned(), |url, loopback| {
        url.replace(&format!("//{loopback}:"), &format!("//{}:", HostRule::SELF))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(registries: &Registries) -> (Vec<String>, Vec<String>) {
        let hosts = registries.hosts().unwrap();
        let text = |rules: Vec<HostRule>| rules.iter().map(ToString::to_string).collect();
        (text(hosts.allow), text(hosts.allow_private))
    }

    #[test]
    fn the_public_registries_are_granted_and_nothing_else() {
        let public = Registries::of(Variables::default(), &Files::default());
        let (allow, private) = shown(&public);
        assert_eq!(
            private,
            ["registry.npmjs.org:443", "pypi.org:443", "files.pythonhosted.org:443"]
        );
        assert!(allow.is_empty());
    }

    #[test]
    fn the_users_own_take_their_places_also_on_the_loopback() {
        let variables = Variables {
            npm: Some("http://localhost:4873/".to_owned()),
            pypi: Some("https://mirror.corp/simple".to_owned()),
        };
        let npmrc = "@a:registry=http://npm.corp:8080/\n//npm.corp:8080/:_authToken=x".to_owned();
        let own = Registries::of(variables, &Files { npmrc: Some(npmrc), ..Files::default() });
        let (allow, private) = shown(&own);
        assert_eq!(allow, ["host.osvm.internal:4873"]);
        assert_eq!(private, ["mirror.corp:443", "files.pythonhosted.org:443", "npm.corp:8080"]);
        assert_eq!(own.for_scripts().npm, "http://host.osvm.internal:4873/");
    }

    #[test]
    fn files_are_read_as_their_tools_read_them() {
        let npmrc =
            "fund=false\nregistry = \"https://a/\"\n@s:registry=https://b/\n//b/:_authToken=t\n";
        let pip = "[global]\nindex-url = https://c/simple\n".to_owned();
        let files = Files { npmrc: Some(npmrc.to_owned()), pip: vec![pip], ca: None };
        let read = Registries::of(Variables::default(), &files);
        assert_eq!((read.npm.as_str(), read.pypi.as_str()), ("https://a/", "https://c/simple"));
        assert_eq!(read.npmrc.as_deref(), Some("@s:registry=https://b/\n//b/:_authToken=t"));
        let stronger = Variables { npm: Some("https://d/".to_owned()), pypi: None };
        assert_eq!(Registries::of(stronger, &files).npm, "https://d/");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        let variables = Variables { npm: Some("not a url".to_owned()), pypi: None };
        let wrong = Registries::of(variables, &Files::default());
        assert!(wrong.hosts().is_err());
    }
}
