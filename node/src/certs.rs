//! The mesh's own certificate authority, for names that no public authority vouches for: a demo's, a test's, a
//! private network's. Clients that trust `/ca.pem` see every node of the mesh as genuine.
//!
//! The authority's key is an ECDSA P-256 key (browsers take no Ed25519 certificates). It is made at founding and held
//! by gateways alone; other nodes send a gateway the names that they serve and get a leaf back.
use std::{net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SubjectPublicKeyInfo,
};
use routing::model::{Secret, UnixMillis};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// From the certificate library.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// From the TLS library.
    #[error("a certificate could not be used: {0}")]
    Use(#[from] rustls::Error),
    /// A key or certificate on disk or from a peer is not one.
    #[error(
        "a key or certificate is damaged: {0}. Remove the file that is named, and it will be made again."
    )]
    Read(String),
    /// A name that is neither a DNS name nor an address.
    #[error("{0} is not a name that a certificate can have")]
    Name(String),
}

/// The authority: its certificate, and its key where this node holds it.
pub struct Authority {
    certificate_pem: String,
    key_pem: Secret,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

/// The key of a leaf. It is made where it is used, and stays there.
pub struct LeafKey(KeyPair);

impl std::fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeafKey(..)")
    }
}

impl LeafKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// [`CertError::Make`].
    pub fn create() -> Result<Self, CertError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// What an authority certifies: SubjectPublicKeyInfo, PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }

    /// The key with the chain that an authority gave for it.
    #[must_use]
    pub fn with_chain(&self, chain_pem: String) -> Leaf {
        Leaf {
            chain_pem,
            key_pem: Secret::new(self.0.serialize_pem()),
        }
    }
}

/// A certificate for a node's names, with its chain and key.
pub struct Leaf {
    /// The leaf and then the authority, PEM.
    pub chain_pem: String,
    /// The leaf's key, PEM (PKCS #8).
    pub key_pem: Secret,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaf(..)")
    }
}

const DAY: i64 = 86_400;

fn validity(params: &mut CertificateParams, now: UnixMillis, days: i64) {
    // An hour back, for clients whose clocks are behind.
    let at = |offset: i64| {
        let seconds = i64::try_from(now.seconds()).unwrap_or(0) + offset;
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = at(-3600);
    params.not_after = at(days * DAY);
}

/// Year, month and day of a count of days since 1970-01-01 (proleptic Gregorian; Hinnant, "chrono-compatible low-level
/// date algorithms").
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "months and days are small"
)]
fn civil(days: i64) -> (i32, u8, u8) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        (yoe + era * 400 + i64::from(month <= 2)) as i32,
        month as u8,
        day as u8,
    )
}

impl Authority {
    /// Makes the authority of a mesh, valid for ten years.
    ///
    /// # Errors
    /// [`CertError::Make`].
    pub fn create(base: &str, now: UnixMillis) -> Result<Self, CertError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Shoal mesh {base}"));
        validity(&mut params, now, 3650);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            key_pem: Secret::new(key.serialize_pem()),
        })
    }

    /// From what another gateway or the disk has.
    #[must_use]
    pub const fn from_pem(certificate_pem: String, key_pem: Secret) -> Self {
        Self {
            certificate_pem,
            key_pem,
        }
    }

    /// The certificate that clients trust: `/ca.pem`.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key, for the disk and for other gateways.
    #[must_use]
    pub const fn key_pem(&self) -> &Secret {
        &self.key_pem
    }

    /// The chain, PEM, of a leaf for these DNS names (wildcards allowed) and addresses, valid for 30 days, over the
    /// public key (SubjectPublicKeyInfo, PEM) of whoever asks.
    ///
    /// # Errors
    /// [`CertError`].
    pub fn issue(
        &self,
        names: &[String],
        public_key: &str,
        now: UnixMillis,
    ) -> Result<String, CertError> {
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if is_dns_name(name) => SanType::DnsName(
                    name.as_str()
                        .try_into()
                        .map_err(|_| CertError::Name(name.clone()))?,
                ),
                Err(_) => return Err(CertError::Name(name.clone())),
            });
        }
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "Shoal node");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, 30);
        let authority_key = KeyPair::from_pem(self.key_pem.expose())?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, authority_key)?;
        let key = SubjectPublicKeyInfo::from_pem(public_key)?;
        let leaf = params.signed_by(&key, &issuer)?;
        Ok(format!("{}{}", leaf.pem(), self.certificate_pem))
    }
}

/// Labels of letters, digits, hyphens and underscores, the first perhaps a star (RFC 6125 section 6.4.3).
fn is_dns_name(name: &str) -> bool {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253
        && plain.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl Leaf {
    /// What a TLS port serves with it: TLS 1.2 and 1.3, HTTP/2 preferred.
    ///
    /// # Errors
    /// [`CertError`].
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertError> {
        let chain = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| CertError::Read(e.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.expose().as_bytes())
            .map_err(|e| CertError::Read(e.to_string()))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_a_calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(20_779), (2026, 11, 22));
        assert_eq!(civil(19_782), (2024, 2, 29));
    }

    #[test]
    fn a_leaf_can_serve_its_names_and_survives_the_disk() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let now = UnixMillis(1_795_000_000_000);
        let authority = Authority::create("example.test", now).unwrap();
        let again = Authority::from_pem(
            authority.certificate_pem().into(),
            authority.key_pem().clone(),
        );
        let key = LeafKey::create().unwrap();
        let names = ["*.acme.cdn.example.test".into(), "127.0.0.1".into()];
        let chain = again.issue(&names, &key.public_pem(), now).unwrap();
        assert!(key.with_chain(chain).server_config().is_ok());
        assert!(
            again
                .issue(&["no such name".into()], &key.public_pem(), now)
                .is_err()
        );
        assert_eq!(format!("{authority:?}"), "Authority(..)");
    }
}
