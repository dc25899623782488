//! What is fuzzed of this crate: the configuration file, and what other nodes ask of the certificate authority or say of
//! their viewers.
use std::{path::Path, sync::LazyLock};

use fuzz_kit::{Input, Target};
use routing::model::UnixMillis;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    certs::{Authority, Leaf, LeafKey},
    config::{Config, ConfigError, EXAMPLE},
};

fuzz_kit::targets! {
    node_config: config, config_seeds;
    node_leaf: leaf, leaf_seeds;
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<Target> {
    [TARGETS, crate::house::fuzz::TARGETS].concat()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A mistake is shown in the file; what is read can be used.
fn config(bytes: &[u8]) {
    let text = text(bytes);
    match Config::parse(Path::new("shoal.toml"), text) {
        Err(ConfigError::Text { line, problem, .. }) => {
            let lines = text.bytes().filter(|b| *b == b'\n').count() + 1;
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
            assert!(!problem.is_empty() && !problem.contains('\n'), "{problem}");
        }
        Err(error) => panic!("no file was read: {error}"),
        Ok(config) => {
            // Without the file that it may name: that is another parser's.
            let mut place = config.place;
            place.mmdb = None;
            let _ = place.place();
            let _ = crate::house::places(&place);
        }
    }
}

fn config_seeds() -> Vec<Vec<u8>> {
    // A key that is commented out has no space after its #; words have one.
    let set = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => String::new(),
    };
    let all: String = EXAMPLE.lines().map(set).collect();
    let prefixes = "[place]\nlat = 1.5\nlon = -2\n[[place.prefixes]]\nprefix = \"192.0.2.0/24\"\nlat = 50.1\nlon = 8.7\nregion = \"eu\"\n";
    vec![
        EXAMPLE.as_bytes().to_vec(),
        all.into_bytes(),
        prefixes.as_bytes().to_vec(),
        b"[listen]\nrtmp = false\nhttp = \"[::]:80\"\n".to_vec(),
    ]
}

static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::create("mesh.test", NOW).expect("an authority can be made"));
static KEY: LazyLock<LeafKey> = LazyLock::new(|| LeafKey::create().expect("a key can be made"));
const NOW: UnixMillis = UnixMillis(1_795_000_000_000);

/// What was issued is a chain that reads, of a leaf and the authority; what a peer calls one is read or refused.
fn leaf(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    let names = [input.block(), input.block()].map(|name| text(name).to_owned());
    let names = &names[..usize::from(flags & 3).min(2)];
    let rest = text(input.rest());
    let own = KEY.public_pem();
    let key = if flags & 4 == 0 { &own } else { rest };
    if let Ok(chain) = AUTHORITY.issue(names, key, NOW) {
        let read = CertificateDer::pem_slice_iter(chain.as_bytes());
        assert_eq!(read.filter(Result::is_ok).count(), 2);
    }
    if flags & 8 != 0 {
        let alleged = Authority::from_pem(
            rest.to_owned(),
            routing::model::Secret::new(rest.to_owned()),
        );
        assert!(alleged.issue(&[], &own, NOW).is_err(), "no key was given");
        let served = Leaf {
            chain_pem: rest.to_owned(),
            key_pem: routing::model::Secret::new(rest.to_owned()),
        };
        assert!(served.server_config().is_err(), "no key was given");
    }
}

fn leaf_seeds() -> Vec<Vec<u8>> {
    let of = |flags: u8, names: [&str; 2], rest: &str| {
        [vec![flags], fuzz_kit::join(names), rest.as_bytes().to_vec()].concat()
    };
    vec![
        of(2, ["*.acme.cdn.mesh.test", "192.0.2.1"], ""),
        of(1, ["mesh.test", ""], ""),
        of(5, ["2001:db8::1", ""], &KEY.public_pem()),
        of(8, ["", ""], AUTHORITY.certificate_pem()),
    ]
}
