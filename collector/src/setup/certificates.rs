//! The authority, and the server certificate that it signs.
//!
//! The certificate's file begins with a line for us, which PEM readers skip:
//!
//! ```text
//! # lm-collector setup: renew-after=1793456789 seconds=7776000 names=mon.example.com,10.0.0.1
//! ```
//!
//! A file without it is somebody else's and is never touched. A renewal keeps
//! the key, so that one rename puts it in force.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lm_enrol::{Access, CA_FILE, Error, Files};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::SetupError;

const HEAD: &str = "# lm-collector setup: ";
/// Agents hold the authority's certificate: a new one would have to reach all.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);
/// For clocks of peers that are behind.
const SLACK: Duration = Duration::from_secs(3600);

/// The files of one directory.
pub struct Certificate {
    ca: PathBuf,
    ca_key: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

/// What the certificate's first line says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    renew_after_unix: u64,
    lifetime: Duration,
    names: Vec<String>,
}

/// What is there.
enum Present {
    Nothing,
    Ours(Head),
    Foreign,
}

impl Certificate {
    pub fn at(dir: &Path) -> Certificate {
        Certificate {
            ca: dir.join(CA_FILE),
            ca_key: dir.join("ca-key.pem"),
            chain: dir.join("tls/fullchain.pem"),
            key: dir.join("tls/key.pem"),
        }
    }

    /// Makes what is missing, has other names, or is due.
    pub fn ensure(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
        files: &mut Files,
    ) -> Result<(), SetupError> {
        match self.present()? {
            Present::Foreign => return Ok(()),
            Present::Ours(head) if !head.is_due(now) && head.names == names => return Ok(()),
            Present::Ours(_) | Present::Nothing => {}
        }
        self.issue(names, lifetime, now, files)
    }

    /// Makes a certificate that is due anew, as it was.
    pub fn renew(&self, now: SystemTime, files: &mut Files) -> Result<(), SetupError> {
        match self.present()? {
            Present::Nothing => Err(SetupError::NoCertificate { path: self.chain.clone() }),
            Present::Ours(head) if head.is_due(now) => self.issue(&head.names, head.lifetime, now, files),
            Present::Ours(_) | Present::Foreign => Ok(()),
        }
    }

    fn present(&self) -> Result<Present, SetupError> {
        if !self.chain.exists() {
            return Ok(Present::Nothing);
        }
        Ok(Head::parse(&read(&self.chain)?).map_or(Present::Foreign, Present::Ours))
    }

    fn issue(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
        files: &mut Files,
    ) -> Result<(), SetupError> {
        let issuer = self.authority(now, files)?;
        let key = if self.key.exists() {
            KeyPair::from_pem(&read(&self.key)?)?
        } else {
            let key = KeyPair::generate()?;
            files.write(&self.key, &key.serialize_pem(), Access::Owner)?;
            key
        };
        let mut server = CertificateParams::new(names.to_vec())?;
        server.distinguished_name.push(DnType::CommonName, "Lightmetrics collector");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        (server.not_before, server.not_after) = validity(now, lifetime);
        let head =
            Head { renew_after_unix: unix_seconds(now + lifetime / 3 * 2), lifetime, names: names.to_vec() };
        let text = format!("{}{}", head.line(), server.signed_by(&key, &issuer)?.pem());
        Ok(files.write(&self.chain, &text, Access::Everyone)?)
    }

    /// The authority of this directory, made when there is none.
    fn authority(&self, now: SystemTime, files: &mut Files) -> Result<Issuer<'static, KeyPair>, SetupError> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, "Lightmetrics CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(now, AUTHORITY_LIFETIME);
        match (self.ca.exists(), self.ca_key.exists()) {
            (_, true) => {
                // Name and key say who signs; the certificate itself is not needed.
                let key = KeyPair::from_pem(&read(&self.ca_key)?)?;
                if !self.ca.exists() {
                    files.write(&self.ca, &params.self_signed(&key)?.pem(), Access::Everyone)?;
                }
                Ok(Issuer::new(params, key))
            }
            (false, false) => {
                let key = KeyPair::generate()?;
                files.write(&self.ca_key, &key.serialize_pem(), Access::Owner)?;
                files.write(&self.ca, &params.self_signed(&key)?.pem(), Access::Everyone)?;
                Ok(Issuer::new(params, key))
            }
            (true, false) => Err(SetupError::Authority { ca: self.ca.clone(), key: self.ca_key.clone() }),
        }
    }
}

impl Head {
    fn is_due(&self, now: SystemTime) -> bool {
        unix_seconds(now) >= self.renew_after_unix
    }

    fn line(&self) -> String {
        let Head { renew_after_unix, lifetime, names } = self;
        let seconds = lifetime.as_secs();
        format!("{HEAD}renew-after={renew_after_unix} seconds={seconds} names={}\n", names.join(","))
    }

    fn parse(text: &str) -> Option<Head> {
        let mut fields = text.lines().next()?.strip_prefix(HEAD)?.split(' ');
        let mut field = |name: &str| fields.next()?.strip_prefix(name);
        Some(Head {
            renew_after_unix: field("renew-after=")?.parse().ok()?,
            lifetime: Duration::from_secs(field("seconds=")?.parse().ok()?),
            names: field("names=")?.split(',').map(str::to_owned).collect(),
        })
    }
}

fn read(path: &Path) -> Result<String, SetupError> {
    let failed = |error| Error::Read { path: path.to_owned(), error };
    Ok(fs::read_to_string(path).map_err(failed)?)
}

fn validity(now: SystemTime, lifetime: Duration) -> (time::OffsetDateTime, time::OffsetDateTime) {
    ((now - SLACK).into(), (now + lifetime).into())
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
