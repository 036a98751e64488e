//! `osvm mcp gateway`

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use osvm_daemon::api::{ApiError, ErrorKind, RunRequest};
use osvm_daemon::client::Client;
use osvm_daemon::gateway::{Access, Bounds, Issuers, Registry, Tls, Tokens, serve};
use osvm_spec::ServerName;
use osvm_spec::config::{Oauth, Token, TokenDigest};

use crate::config_file::{ConfigFile, no_such};
use crate::error::CliError;
use crate::{daemon, environment, gateway_token, images, output, secrets};

/// Serve MCP over HTTP
///
/// All servers at /mcp, where tools are called SERVER__TOOL, and each at /servers/NAME/mcp, as Streamable HTTP of all revisions from 2025-03-26 on. Clients show a bearer
/// token: the gateway's own, which the first start makes and prints, one of `osvm mcp gateway-token`, or one of the authorization server under [gateway.oauth] in the
/// configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  osvm mcp gateway --listen 127.0.0.1:7080
  curl -H \"Authorization: Bearer $(cat ~/.osvm/gateway.token)\" http://127.0.0.1:7080/servers/files/mcp ...")]
pub(crate) struct Args {
    /// Address and port; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7080")]
    listen: SocketAddr,
    /// Serve everybody who reaches the address, which must be one of this host alone
    #[arg(long)]
    no_token: bool,
    /// Speak TLS with this certificate, in PEM, and those behind it that lead to a known one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM: a file that nobody else can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve requests that are addressed to this name, too; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Serve pages of this origin, too, as in https://app.example.com; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    if args.no_token && !args.listen.ip().is_loopback() {
        let why = format!("--no-token on {} would serve the whole network", args.listen.ip());
        return Err(CliError::usage(why).hint("--listen 127.0.0.1:7080"));
    }
    let file = ConfigFile::open()?;
    if args.no_token {
        check_open(file)?;
    }
    let tls = args.tls_cert.zip(args.tls_key);
    let tls = tls.map(|(certificate, key)| read(&certificate, &key)).transpose()?;
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| CliError::failed(format!("can't listen on {}: {error}", args.listen)))?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let token = if args.no_token { None } else { Some(gateway_token::find_or_make()?) };
    if tls.is_none() && !address.ip().is_loopback() {
        output::warning(
            "the token and all that is said can be read on the way: this is plain HTTP; see --tls-cert",
        );
    }
    let registered = Arc::new(Registered(file));
    let access = Access {
        token,
        tokens: Some(Arc::clone(&registered) as Arc<dyn Tokens>),
        verifier: Some(Arc::new(Issuers::new(environment::registries::of_images()))),
        hosts: args.allow_host,
        origins: args.allow_origin,
    };
    daemon::run(async {
        daemon::connect().await?;
        let told_to_end = daemon::told_to_end()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        output::line(format_args!("listening on {scheme}://{address}"))?;
        let limits = (access, Bounds::default());
        let served = serve((listener, tls), limits, registered, told_to_end).await;
        served.map_err(|error| CliError::failed(format!("can't serve on {address}: {error}")))
    })
}

/// What says who may do what would count for nobody.
fn check_open(file: ConfigFile) -> Result<(), CliError> {
    let config = file.current()?;
    let section = match &config.gateway {
        gateway if gateway.oauth.is_some() => "[gateway.oauth]",
        gateway if !gateway.tokens.is_empty() => "[[gateway.tokens]]",
        _ => return Ok(()),
    };
    let why =
        format!("--no-token would serve everybody, whatever {section} in {} says", file.name());
    let hint = format!("start it without --no-token, or remove {section}");
    Err(CliError::usage(why).hint(hint))
}

fn read(certificate: &Path, key: &Path) -> Result<Tls, CliError> {
    let shown = certificate.display();
    let chain = fs::read(certificate)
        .map_err(|error| CliError::failed(format!("can't read {shown}: {error}")))?;
    let key_text = secrets::from_file(key)?;
    Tls::of(&chain, key_text.as_bytes()).map_err(|error| {
        CliError::failed(format!("can't speak TLS with {shown} and {}: {error}", key.display()))
    })
}

/// As the configuration is at the moment.
#[derive(Debug)]
struct Registered(ConfigFile);

impl Registry for Registered {
    fn names(&self) -> Result<Vec<ServerName>, ApiError> {
        let config = self.0.current()?;
        let enabled = config.servers.iter().filter(|server| server.enabled);
        Ok(enabled.map(|server| server.id.clone()).collect())
    }

    fn request(&self, name: &ServerName) -> Result<(Client, RunRequest), ApiError> {
        let config = self.0.current()?;
        if config.server(name).is_none() {
            let error = ApiError::from(no_such(name, config.nearest(name)));
            return Err(ApiError { kind: ErrorKind::NoSuch, ..error });
        }
        let request = || {
            let overrides = environment::overrides()?;
            images::ensure(name, &overrides)?;
            let request =
                RunRequest { overrides, secrets: secrets::of(name, &[])?, on_behalf: None };
            Ok::<_, CliError>((daemon::run(daemon::connect())?, request))
        };
        Ok(request()?)
    }

    fn requests(
        &self,
        names: &[ServerName],
    ) -> Result<(Client, Vec<(ServerName, RunRequest)>), ApiError> {
        let overrides = environment::overrides()?;
        let request = |name: &ServerName| {
            let (overrides, secrets) = (overrides.clone(), secrets::unasked(name).ok()??);
            Some((name.clone(), RunRequest { overrides, secrets, on_behalf: None }))
        };
        let requests = names.iter().filter_map(request).collect();
        Ok((daemon::run(daemon::connect())?, requests))
    }

    fn is_shared(&self, name: &ServerName) -> bool {
        let config = self.0.current();
        config.is_ok_and(|config| config.server(name).is_some_and(|server| server.shared))
    }
}

impl Tokens for Registered {
    fn find(&self, digest: &TokenDigest) -> Result<Option<Token>, String> {
        let config = self.0.current().map_err(|error| ApiError::from(error).message)?;
        Ok(config.gateway.tokens.iter().find(|token| token.sha256 == *digest).cloned())
    }

    fn oauth(&self) -> Result<Option<Oauth>, String> {
        let config = self.0.current().map_err(|error| ApiError::from(error).message)?;
        Ok(config.gateway.oauth.clone())
    }
}
