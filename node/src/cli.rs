//! The command line.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use routing::model::{Label, Prefix, Role, Secret};

/// Live video from the nearest healthy node: one program a machine, no centre.
#[derive(Debug, Parser)]
#[command(
    name = "shoal",
    version,
    propagate_version = true,
    max_term_width = 110
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// The configuration file. Without one, every setting has its default.
    #[arg(
        long,
        global = true,
        env = "SHOAL_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,

    /// The data directory: keys, records, lock.
    #[arg(
        long,
        global = true,
        env = "SHOAL_DATA",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub data: Option<PathBuf>,

    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,

    /// More log lines; twice for still more. SHOAL_LOG takes finer filters (as `media=debug`).
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Found a mesh: its root key, its first cluster, and this machine as its first node.
    Init(Init),
    /// Make a token with which one more machine can join.
    Token(Token),
    /// Join a mesh with a token.
    Join(Join),
    /// Run this machine's node.
    Run(Run),
    /// Show the mesh, its nodes and its streams, as this machine's node sees them.
    Status,
    /// Make or list tenants.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Say why a name resolves as it does: who was considered, every term of every score, why the others lost.
    Explain(Explain),
    /// Run a mesh of three nodes on this machine, with a stream to watch. Opens nothing outside.
    Demo(Demo),
    /// Print every key of the configuration file with its default: `shoal config > shoal.toml` begins one.
    Config,
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// `shoal init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The mesh's base name: a domain that you control, as `video.example`. Asked for where it is not given.
    pub base: Option<String>,
    /// The first cluster's name in DNS.
    #[arg(long, default_value = "main", value_name = "NAME", value_parser = parse_label)]
    pub cluster: Label,
    /// This node's name; default: the machine's.
    #[arg(long, value_name = "NAME", value_parser = parse_label)]
    pub name: Option<Label>,
}

/// `shoal token`.
#[derive(Debug, Args)]
pub struct Token {
    /// What the new node may do.
    #[arg(long, value_delimiter = ',', default_value = "ingest,edge,dns,gateway", value_parser = parse_role)]
    pub roles: Vec<Role>,
    /// How long the token can be used, in minutes.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub minutes: u32,
}

/// `shoal join`.
#[derive(Debug, Args)]
pub struct Join {
    /// What `shoal token` printed.
    #[arg(value_parser = parse_secret)]
    pub token: Secret,
    /// This node's name; default: the machine's.
    #[arg(long, value_name = "NAME", value_parser = parse_label)]
    pub name: Option<Label>,
}

/// `shoal run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Stop when standard input ends: for programs that start nodes and must not leave them behind.
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

/// `shoal tenant`.
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Make a tenant, entitled to this cluster, and print an API token for it.
    Create {
        /// Its label: `acme` gets `acme.cdn.BASE`.
        #[arg(value_parser = parse_label)]
        label: Label,
        /// Its name for people; default: the label.
        #[arg(long)]
        name: Option<String>,
    },
    /// List tenants.
    List,
}

/// `shoal explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The name to resolve, as `foghorn.acme.cdn.video.example`.
    pub name: String,
    /// Where the asker is: an address or a subnet.
    #[arg(long, value_name = "SUBNET")]
    pub from: Option<Prefix>,
}

/// `shoal demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// The mesh's base name.
    #[arg(long, default_value = "shoal.test")]
    pub base: String,
    /// Do not feed the built-in clip: publish yourself.
    #[arg(long)]
    pub no_feed: bool,
    /// Addresses for the nodes instead of free ones of 127.0.0.0/8.
    #[arg(long, value_delimiter = ',', value_name = "IP,IP,IP")]
    pub addresses: Vec<std::net::IpAddr>,
}

#[expect(clippy::unnecessary_wraps, reason = "clap asks for a result")]
fn parse_secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

fn parse_label(text: &str) -> Result<Label, String> {
    text.parse().map_err(|_| {
        "it becomes part of host names: 1 to 63 letters a to z, digits and hyphens, with no hyphen first or last"
            .to_owned()
    })
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::ALL
        .iter()
        .copied()
        .find(|role| role.as_str() == text)
        .ok_or_else(|| {
            format!(
                "roles are {}",
                Role::ALL
                    .iter()
                    .map(|r| r.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn unknown_roles_are_named() {
        assert!(
            parse_role("king")
                .unwrap_err()
                .contains("ingest, edge, dns, gateway, storage")
        );
    }

    #[test]
    fn a_join_token_on_the_command_line_cannot_be_printed() {
        let cli = Cli::try_parse_from(["shoal", "join", "shoal-join-secret"]).unwrap();
        assert!(!format!("{cli:?}").contains("shoal-join-secret"));
    }
}
