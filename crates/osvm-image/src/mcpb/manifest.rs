//! `manifest.json` of a bundle, versions 0.1 to 0.4: what of it decides how the server starts. The rest is for
//! shops that show bundles; keys that are not known here are passed over.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::ManifestError;
use super::settings::Setting;

#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub version: Version,
    pub name: String,
    /// What people see.
    pub title: String,
    /// Of the bundle itself, as its author counts.
    pub release: String,
    pub description: String,
    pub kind: Kind,
    /// Within the bundle. How it is run is in the command.
    pub entry_point: String,
    pub(super) command: Command,
    pub compatibility: Compatibility,
    pub settings: BTreeMap<String, Setting>,
}

/// Of the manifest's own form. 0.1 and 0.2 differ from 0.3 in nothing that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V0_1,
    V0_2,
    V0_3,
    V0_4,
}

/// What the server is written in, and so what its image needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Node,
    Python,
    Binary,
    /// Python whose dependencies are in `pyproject.toml`, for uv to install.
    Uv,
}

/// What the server needs, as ranges of versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Compatibility {
    platforms: Vec<String>,
    pub runtimes: BTreeMap<String, String>,
}

/// `mcp_config`, for this platform, with nothing substituted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
}

const PLATFORM: &str = "linux";

#[derive(Deserialize)]
struct Versions {
    manifest_version: Option<String>,
    dxt_version: Option<String>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    display_name: Option<String>,
    version: String,
    #[serde(default)]
    description: String,
    server: Server,
    #[serde(default)]
    compatibility: Compatibility,
    #[serde(default)]
    user_config: BTreeMap<String, Setting>,
}

#[derive(Deserialize)]
struct Server {
    #[serde(rename = "type")]
    kind: Kind,
    entry_point: String,
    mcp_config: Option<McpConfig>,
}

#[derive(Deserialize)]
struct McpConfig {
    command: String,
    args: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform_overrides: BTreeMap<String, Override>,
}

#[derive(Default, Deserialize)]
struct Override {
    command: Option<String>,
    args: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Name and release, for people: a stranger has written them.
    pub fn label(&self) -> String {
        let text = format!("{} {}", self.name, self.release);
        text.chars().filter(|c| !c.is_control()).collect()
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        // A later version may be of another form altogether, so its number is read by itself.
        let versions = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let version = version(versions)?;
        let file: File = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        check(&file, version)?;
        Ok(Self {
            version,
            title: file.display_name.unwrap_or_else(|| file.name.clone()),
            name: file.name,
            release: file.version,
            description: file.description,
            kind: file.server.kind,
            command: command(file.server.kind, &file.server.entry_point, file.server.mcp_config)?,
            entry_point: file.server.entry_point,
            compatibility: file.compatibility,
            settings: file.user_config,
        })
    }
}

fn version(said: Versions) -> Result<Version, ManifestError> {
    let found = match (said.manifest_version, said.dxt_version) {
        (Some(manifest), Some(dxt)) if manifest != dxt => {
            return Err(ManifestError::TwoVersions { manifest, dxt });
        }
        (manifest, dxt) => manifest.or(dxt).ok_or(ManifestError::NoVersion)?,
    };
    let known = Version::ALL.into_iter().find(|version| version.as_str() == found);
    known.ok_or(ManifestError::Version { found })
}

fn check(file: &File, version: Version) -> Result<(), ManifestError> {
    if file.server.kind == Kind::Uv && version < Version::V0_4 {
        return Err(ManifestError::TooNew { found: version });
    }
    let platforms = &file.compatibility.platforms;
    if !platforms.is_empty() && !platforms.iter().any(|platform| platform == PLATFORM) {
        let (name, platforms) = (file.name.clone(), platforms.clone());
        return Err(ManifestError::Platform { name, platforms });
    }
    file.user_config.iter().try_for_each(|(key, setting)| {
        let wrong = |why| ManifestError::Setting { key: key.clone(), why };
        setting.fault(key).map_or(Ok(()), |why| Err(wrong(why)))
    })
}

/// What is said for Linux stands in place of what is said for all.
fn command(
    kind: Kind,
    entry_point: &str,
    config: Option<McpConfig>,
) -> Result<Command, ManifestError> {
    let Some(mut config) = config else {
        return if kind == Kind::Uv { Ok(uv(entry_point)) } else { Err(ManifestError::NoCommand) };
    };
    let here = config.platform_overrides.remove(PLATFORM).unwrap_or_default();
    Ok(Command {
        program: here.command.filter(|command| !command.is_empty()).unwrap_or(config.command),
        args: here.args.or(config.args).unwrap_or_default(),
        env: here.env.or(config.env).unwrap_or_default(),
    })
}

/// The host decides how uv is run: from the bundle's folder, whose project it takes.
fn uv(entry_point: &str) -> Command {
    let args = ["run", "--directory", "${__dirname}", entry_point];
    let args = args.map(str::to_owned).to_vec();
    Command { program: "uv".to_owned(), args, env: BTreeMap::new() }
}

impl Version {
    pub const ALL: [Self; 4] = [Self::V0_1, Self::V0_2, Self::V0_3, Self::V0_4];
    pub const OLDEST: Self = Self::V0_1;
    pub const NEWEST: Self = Self::V0_4;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1",
            Self::V0_2 => "0.2",
            Self::V0_3 => "0.3",
            Self::V0_4 => "0.4",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
