//! The daemon itself: one per home, behind a socket that only its user may use.

mod accepted;
mod answer;
mod apart;
mod between;
mod eras;
mod exec;
mod glance;
mod greet;
mod guarded;
mod guest;
mod hidden;
mod idle;
mod logs;
mod look;
mod manifests;
mod peer;
mod place;
mod plan;
mod rates;
mod recall;
mod record;
mod relay;
mod rights;
mod run;
mod servers;
mod session;
mod tools;
mod upgrade;
mod usage;
mod vms;
mod work;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
pub use osvm_fleet::Idle;
use osvm_fleet::drivers::Drivers;
use osvm_fleet::{Fleet, Preparer, Settings};
use osvm_image::Store;
use osvm_image::initramfs::Assembler;
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{self, Info, path};
use crate::audit::Log;
use crate::config_file::ConfigFile;
use crate::home::Home;
use crate::host::Host;
use crate::images::Images;
use crate::importer;
use crate::lock::LockFile;
use crate::payload;
use accepted::Accepted;
use answer::Answer;
use eras::Eras;
use greet::McpGreeter;
use manifests::Manifests;
use rates::Rates;
use record::Recordings;
use relay::RelayProcess;
use tools::SharedLog;

/// The line on standard output that tells the starter that the socket is there.
pub const LISTENING: &str = "listening";

/// Bodies carry tools' arguments, which may be large.
const MAX_BODY: usize = 256 << 20;

/// What the daemon needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct Options {
    pub home: Home,
    pub host: Host,
    /// Each instead of what the configuration says; zero is forever.
    pub idle: Idle,
    /// How long nothing must have been going on before a server rehearses; for zero, none ever does.
    pub quiet: Option<Duration>,
}

/// Why there is no daemon.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("{act} {}", path.display())]
    File { act: &'static str, path: PathBuf, source: io::Error },
    #[error("listen on {}: {length} bytes are too many for a socket's path", path.display())]
    PathTooLong { path: PathBuf, length: usize },
    #[error("open image store")]
    Store(#[from] osvm_image::StoreError),
    #[error("serve")]
    Serve(#[source] io::Error),
}

/// Everything a request may need.
pub(crate) struct Daemon {
    home: Home,
    config: ConfigFile,
    host: Host,
    fleet: Arc<Fleet<McpGreeter>>,
    idle: Idle,
    /// None where no server rehearses.
    quiet: Option<Duration>,
    recordings: Recordings,
    images: Images,
    greeter: McpGreeter,
    eras: Eras,
    manifests: Manifests,
    audit: SharedLog,
    rates: Rates,
}

type Shared = State<Arc<Daemon>>;

/// Serves until told to end by SIGTERM or SIGINT. VMs go on running. Returns at once, successfully,
/// when another daemon of this home is already there.
pub async fn serve(options: Options) -> Result<(), ServeError> {
    // Of a session of its own, and so is all that it starts: no terminal's end, and no Ctrl-C, is theirs. Fails only
    // for a process that leads a group already, as under a service manager, which is just as good.
    let _ = rustix::process::setsid();
    let relay = relay::start(&options.host.shim);
    rights::give_up();
    let home = &options.home;
    make_dir(home.root())?;
    make_dir(&home.run())?;
    let Some(_lock) = lock(home)? else {
        other_listens(home).await?;
        announce();
        return Ok(());
    };
    let listener = listen(home)?;
    let daemon = Arc::new(Daemon::open(&options, relay).await?);
    tokio::spawn(idle::settle(Arc::clone(&daemon)));
    announce();
    let router = routes().with_state(Arc::clone(&daemon));
    let served = axum::serve(peer::OwnUser(listener), router).with_graceful_shutdown(told_to_end());
    tokio::select! {
        served = async { served.await } => served.map_err(ServeError::Serve)?,
        () = async { told_to_end().await; tokio::time::sleep(DRAIN).await } => {}
    }
    let _ = fs::remove_file(home.socket());
    daemon.fleet.clear_spares().await;
    Ok(())
}

/// How long no VM must have had anything to do before a server rehearses, unless told.
const QUIET: Duration = Duration::from_secs(20);

/// How long a guest may sleep while it boots. Awake, it is never idle for a tenth of that.
const ASLEEP_AFTER: Duration = Duration::from_secs(10);

/// How long open requests may take once the daemon was told to end.
const DRAIN: Duration = Duration::from_secs(3);

fn routes() -> Router<Arc<Daemon>> {
    let paths = Router::new()
        .route(path::INFO, get(info))
        .route(path::VMS, get(vms::list).post(vms::launch).delete(vms::stop_all))
        .route(path::VM, get(vms::show).delete(vms::stop))
        .route(path::SUSPEND, post(vms::suspend))
        .route(path::LOGS, get(logs::read))
        .route(path::EXEC, post(exec::start))
        .route(path::CALL, post(servers::call))
        .route(path::LIST, post(servers::list))
        .route(path::LOOK, post(look::look))
        .route(path::RECALL, post(recall::recall))
        .route(path::RUN, post(run::start))
        .route(path::WORK, post(work::start));
    Router::new()
        .nest(api::ROOT, paths)
        .fallback(answer::no_such_path)
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

async fn info(State(daemon): Shared) -> Answer<Info> {
    answer::json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        home: daemon.home.root().to_owned(),
        runtime_dir: daemon.home.runtime_dir().to_owned(),
    })
}

impl Daemon {
    async fn open(options: &Options, relay: io::Result<RelayProcess>) -> Result<Self, ServeError> {
        let Options { home, host, idle, quiet } = options;
        let (config, store) = (ConfigFile::of(home), Store::open(&home.images())?);
        let assembler = Assembler::new(&home.cache(), payload::AGENT);
        let settings = Settings {
            home: home.root().to_owned(),
            runtime_dir: home.runtime_dir().to_owned(),
            logs_dir: home.logs(),
            parallel_launches: plan::parallel_launches(&config),
            proc: host.proc.clone(),
            asleep_after: ASLEEP_AFTER,
            relay: relay::reach(relay),
        };
        let drivers = Drivers::of_host(host.facts(), host.programs(), host.jail().await);
        let importer = importer::Process { program: host.shim.clone(), store: home.images() };
        let preparer = Preparer::new(store.clone(), assembler, importer);
        let accepted = Arc::new(Accepted { lock: LockFile::of(home), store: store.clone() });
        let greeter = McpGreeter(Arc::clone(&accepted));
        let fleet = Fleet::open(settings, drivers, preparer, greeter.clone()).await;
        let (home, host) = (home.clone(), host.clone());
        let recordings = Recordings::default();
        let images = Images::in_store(store);
        let audit = Arc::new(Mutex::new(Log::at(home.audit())));
        let (eras, rates) = (Eras::default(), Rates::default());
        let manifests = Manifests::in_folder(home.manifests());
        Ok(Self {
            home,
            config,
            host,
            fleet,
            idle: *idle,
            quiet: Some(quiet.unwrap_or(QUIET)).filter(|quiet| !quiet.is_zero()),
            recordings,
            images,
            greeter,
            eras,
            manifests,
            audit,
            rates,
        })
    }
}

fn make_dir(path: &std::path::Path) -> Result<(), ServeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ServeError::File { act: "make folder", path: path.to_owned(), source })
}

/// None when another daemon holds it.
fn lock(home: &Home) -> Result<Option<File>, ServeError> {
    let path = home.lock();
    let failed = |source| ServeError::File { act: "lock", path: home.lock(), source };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// The daemon that holds the lock may not listen yet: it was started at the same moment.
async fn other_listens(home: &Home) -> Result<(), ServeError> {
    const LIMIT: Duration = Duration::from_secs(30);
    const LOOK: Duration = Duration::from_millis(5);
    let deadline = tokio::time::Instant::now() + LIMIT;
    while let Err(source) = UnixStream::connect(home.socket()).await {
        if tokio::time::Instant::now() > deadline {
            let path = home.socket();
            return Err(ServeError::File { act: "reach the other daemon on", path, source });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// A socket left by a daemon that was killed is replaced: the lock proves that nobody listens.
fn listen(home: &Home) -> Result<UnixListener, ServeError> {
    /// `sun_path` with its final zero.
    const LIMIT: usize = 107;
    let path = home.socket();
    let length = path.as_os_str().len();
    if length > LIMIT {
        return Err(ServeError::PathTooLong { path, length });
    }
    let failed = |source| ServeError::File { act: "listen on", path: home.socket(), source };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Whoever started the daemon may have gone: nobody to tell is no reason to end.
fn announce() {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{LISTENING}");
    let _ = out.flush();
}

async fn told_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
