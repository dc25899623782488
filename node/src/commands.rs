//! What each command does.
use std::{
    io::{IsTerminal, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::CommandFactory;
use routing::model::Exposed;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

use crate::{
    cli::{Cli, Command, Explain, Init, Join, Run, Tenant, Token},
    config::Config,
    demo,
    house::commands::{Explained, Status, TenantMade, TenantRequest, TenantRow, TokenRequest},
    local, run, setup,
    terminal::{Progress, say, table},
};

/// Writes an error and its causes for people.
pub fn complain(error: &anyhow::Error) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "shoal: {}", words(error));
}

/// An error and its causes, each said once: many a message has its cause's words in it.
fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Carries out a command line.
///
/// # Errors
/// What went wrong, in words for whoever typed it.
pub fn main(cli: Cli) -> anyhow::Result<()> {
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "shoal", &mut std::io::stdout());
        return Ok(());
    }
    if let Command::Config = cli.command {
        say(crate::config::EXAMPLE.trim_end())?;
        return Ok(());
    }
    let quiet = !matches!(cli.command, Command::Run(_));
    log(cli.verbose, cli.json, quiet)?;
    // Every TLS user of the process takes this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads can be started")?;
    let result = runtime.block_on(command(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

/// Libraries that tell of every connection: heard only where they are asked for by name.
const TALKATIVE: &str = "libp2p=warn,quinn=warn,hyper=warn,h2=warn,rustls=warn";

fn log(verbose: u8, json: bool, quiet: bool) -> anyhow::Result<()> {
    let default = match (verbose, quiet) {
        (0, true) => format!("error,{TALKATIVE}").replace("warn", "error"),
        (0, false) => format!("info,{TALKATIVE}"),
        (1, _) => format!("debug,{TALKATIVE}").replace("warn", "info"),
        _ => "trace".to_owned(),
    };
    let filter = match std::env::var("SHOAL_LOG") {
        Ok(asked) => EnvFilter::try_new(format!("{TALKATIVE},{asked}")).with_context(|| {
            format!("SHOAL_LOG={asked:?} is no filter: give a level, or targets with levels, as info,media=debug")
        })?,
        Err(_) => EnvFilter::new(default),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second subscriber can only be a test's.
    let _ = if json {
        builder.json().finish().try_init()
    } else {
        builder.finish().try_init()
    };
    Ok(())
}

/// Where the data directory is: the option, the file, `/var/lib/shoal` for root, else `~/.local/share/shoal`.
fn data_dir(cli: &Cli, config: &Config) -> PathBuf {
    let home =
        || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share/shoal"));
    let default = || {
        if rustix::process::geteuid().is_root() {
            None
        } else {
            home()
        }
        .unwrap_or_else(|| "/var/lib/shoal".into())
    };
    cli.data
        .clone()
        .or_else(|| config.data.clone())
        .unwrap_or_else(default)
}

async fn command(cli: Cli) -> anyhow::Result<()> {
    let config = cli
        .config
        .as_deref()
        .map(Config::read)
        .transpose()?
        .unwrap_or_default();
    let dir = data_dir(&cli, &config);
    let json = cli.json;
    match cli.command {
        Command::Init(init) => found(init, &dir, json).await,
        Command::Token(ask) => token(ask, &dir, json).await,
        Command::Join(join) => join_mesh(join, &dir, json).await,
        Command::Run(options) => run::run(config, &dir, stop_signal(&options)?).await,
        Command::Status => status(&dir, json).await,
        Command::Tenant(tenant) => tenants(tenant, &dir, json).await,
        Command::Explain(explain) => explained(explain, &dir, json).await,
        Command::Demo(options) => {
            demo::run(
                &options,
                json,
                stop_signal(&Run {
                    stop_with_stdin: false,
                })?,
            )
            .await
        }
        // Both need nothing of this and were done before.
        Command::Config | Command::Completions { .. } => Ok(()),
    }
}

/// Cancelled by Ctrl-C, SIGTERM, and where asked the end of standard input.
fn stop_signal(options: &Run) -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let asked = stop.clone();
    let stop_with_stdin = options.stop_with_stdin;
    tokio::spawn(async move {
        let input = async {
            if stop_with_stdin {
                // Whatever it says, only its end matters; an unreadable input has ended.
                let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = input => {}
        }
        asked.cancel();
    });
    Ok(stop)
}

fn print<T: serde::Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    say(&if json {
        serde_json::to_string(value)?
    } else {
        text()
    })?;
    Ok(())
}

async fn found(init: Init, dir: &Path, json: bool) -> anyhow::Result<()> {
    let base = match init.base {
        Some(base) => base,
        None => ask_base()?,
    };
    let name = match init.name {
        Some(name) => name,
        None => setup::machine_name()?,
    };
    let founded = setup::init(
        dir,
        setup::Founding {
            base: base.clone(),
            slug: init.cluster,
            node_name: name,
        },
    )
    .await?;
    print(json, &founded, || {
        format!(
            "Founded the mesh {} with this machine as its first node, {}.\n\nThe root key is {}/root.key. Copy it to a safe \
             place: it alone can admit clusters and tenants.\n\nNext: `shoal run` here, then `shoal token` for each further \
             machine.",
            base,
            founded.node,
            dir.display()
        )
    })
}

fn ask_base() -> anyhow::Result<String> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "a mesh has a base name, under which all its names are: `shoal init video.example`"
    );
    let mut out = std::io::stderr();
    write!(
        out,
        "The mesh's base name, a domain that you control (as video.example): "
    )?;
    out.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Says what is waited for, once that has taken a second.
async fn patiently<T>(json: bool, what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
    }
    let progress = Progress::new(!json);
    progress.step(what);
    let done = work.await;
    progress.done();
    done
}

async fn token(ask: Token, dir: &Path, json: bool) -> anyhow::Result<()> {
    let minutes = ask.minutes;
    let token: Exposed = local::ask(
        dir,
        "POST",
        "/token",
        &TokenRequest {
            roles: ask.roles,
            minutes,
        },
    )
    .await?;
    print(
        json,
        &serde_json::json!({ "token": token, "minutes": minutes }),
        || {
            format!(
                "On the new machine, within {minutes} minutes:\n\n  shoal join {}\n  shoal run",
                token.0.expose()
            )
        },
    )
}

async fn join_mesh(join: Join, dir: &Path, json: bool) -> anyhow::Result<()> {
    let joined = patiently(
        json,
        "waiting for a gateway of the mesh to answer",
        setup::join(dir, &join.token, join.name),
    )
    .await?;
    print(json, &joined, || {
        format!(
            "This machine is now {} of mesh {}.\n\nNext: `shoal run`.",
            joined.node,
            &joined.mesh[..8]
        )
    })
}

async fn status(dir: &Path, json: bool) -> anyhow::Result<()> {
    let status: Status = local::ask(dir, "GET", "/status", &()).await?;
    print(json, &status, || describe(&status))
}

fn describe(status: &Status) -> String {
    let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let mut nodes = vec![row(&[
        "NODE", "CLUSTER", "STATE", "REGION", "VIEWERS", "CPU", "ROLES", "HTTP",
    ])];
    for node in &status.nodes {
        let roles: Vec<_> = node.roles.iter().map(|r| r.as_str()).collect();
        nodes.push(vec![
            format!(
                "{}{}",
                node.name,
                if node.id == status.node {
                    " (this)"
                } else {
                    ""
                }
            ),
            node.cluster.clone(),
            if node.alive { "alive" } else { "dead" }.into(),
            node.place
                .as_ref()
                .map_or_else(|| "-".into(), |p| p.region().to_string()),
            node.viewers.to_string(),
            format!("{} %", node.cpu / 10),
            roles.join(","),
            node.services
                .get("http")
                .cloned()
                .unwrap_or_else(|| "-".into()),
        ]);
    }
    let mut streams = vec![row(&[
        "STREAM",
        "TENANT",
        "PLAYBACK ID",
        "ORIGIN",
        "REPLICAS",
        "ROUTE TO HERE",
    ])];
    for stream in &status.streams {
        let replicas: Vec<_> = stream.replicas.iter().map(|r| r.as_str()).collect();
        let route: Vec<_> = stream.route.iter().map(|r| r.as_str()).collect();
        streams.push(vec![
            stream.name.clone(),
            stream.tenant.clone(),
            stream.playback_id.clone(),
            stream
                .origin
                .as_ref()
                .map_or_else(|| "not live".into(), ToString::to_string),
            replicas.join(" "),
            if route.is_empty() {
                "-".into()
            } else {
                route.join(" > ")
            },
        ]);
    }
    let mut text = format!(
        "mesh {}  {}\n\n{}\n",
        status.base,
        &status.mesh[..8],
        table(&nodes)
    );
    if status.streams.is_empty() {
        text.push_str("\nno streams yet\n");
    } else {
        text.push_str(&format!("\n{}\n", table(&streams)));
    }
    for warning in &status.warnings {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    text.trim_end().to_owned()
}

async fn tenants(tenant: Tenant, dir: &Path, json: bool) -> anyhow::Result<()> {
    match tenant {
        Tenant::Create { label, name } => {
            let made: TenantMade =
                local::ask(dir, "POST", "/tenants", &TenantRequest { label, name }).await?;
            print(json, &made, || {
                format!(
                    "Made the tenant {}; {}.\n\nIts API token, shown only now:\n\n  {}",
                    made.domain,
                    match made.acknowledgement.as_str() {
                        "REPLICATED" => "a second machine has it on its disk too",
                        _ => "it is on this machine's disk, and goes to others as they connect",
                    },
                    made.token.0.expose()
                )
            })
        }
        Tenant::List => {
            let rows: Vec<TenantRow> = local::ask(dir, "GET", "/tenants", &()).await?;
            print(json, &rows, || {
                let mut all = vec![vec![
                    "TENANT".to_owned(),
                    "LABEL".to_owned(),
                    "STREAMS".to_owned(),
                ]];
                all.extend(rows.iter().map(|r| {
                    let label = r
                        .label
                        .as_ref()
                        .map_or_else(|| "-".to_owned(), ToString::to_string);
                    vec![r.name.clone(), label, r.streams.to_string()]
                }));
                table(&all)
            })
        }
    }
}

async fn explained(explain: Explain, dir: &Path, json: bool) -> anyhow::Result<()> {
    let mut path = format!("/explain?name={}", escaped(&explain.name));
    if let Some(from) = explain.from {
        path.push_str(&format!("&from={from}"));
    }
    let explained: Explained = local::ask(dir, "GET", &path, &()).await?;
    print(json, &explained.detail, || {
        explained.text.trim_end().to_owned()
    })
}

/// Text as part of a query (RFC 3986 section 2.1).
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let error = Err::<(), _>(anyhow::anyhow!("no room"))
            .context("x cannot be written: no room")
            .context("founding")
            .unwrap_err();
        assert_eq!(
            super::words(&error),
            "founding: x cannot be written: no room"
        );
    }

    #[test]
    fn queries_carry_any_text() {
        assert_eq!(super::escaped("a b&c.d"), "a%20b%26c.d");
    }
}
