use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hmac,
};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::{digest::sha256, seal};

/// A file that is larger than this is no key file.
const MAX_FILE: u64 = 64 * 1024;

/// Thirty-two random bytes practically never have fewer different values than this.
const MIN_VARIETY: usize = 16;

/// The keys that wrap every other stored secret: AES-256-GCM, bound to where the secret stands.
///
/// Written as one key per line, 64 hexadecimal digits; lines that begin with `#` are skipped. The first key wraps, all of
/// them unwrap. To rotate, put a new line on top and restart; the signing keys that older keys wrapped are wrapped anew at
/// the next start. What was sealed for other rooms keeps its key, and tags theirs: an old line can go when nothing sealed
/// or tagged under it is wanted any more. A key's id comes from the key, so that an id never names another key.
pub struct MasterKey {
    keys: Vec<One>,
}

struct One {
    id: String,
    key: RandomizedNonceKey,
    /// What the keys of tags are derived from.
    tags: hmac::Key,
}

/// Why there is no usable master key. The key itself is never shown.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or made.
    #[error("cannot use the master key file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others could read it.
    #[error("the master key file {} may be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not made of keys.
    #[error("the master key: line {line}: expected 64 hexadecimal digits that were generated at random")]
    Malformed {
        /// Which line, from 1.
        line: usize,
    },
    /// It is empty.
    #[error("the master key: there is none")]
    Empty,
    /// A stored secret was wrapped by a key that is not here.
    #[error("the master key with id {id}, which wraps stored secrets, is missing")]
    Missing {
        /// The key's id.
        id: String,
    },
    /// Unwrapping failed: the wrong place, or somebody changed it.
    #[error("a stored secret cannot be unwrapped")]
    Tampered,
    /// The operating system gave no random bytes, or the library failed.
    #[error("the cryptography library failed")]
    Crypto,
}

impl MasterKey {
    /// Reads the file, and makes it with a new key and mode 0600 when it is absent. Two processes that start at once
    /// end up with the same key.
    ///
    /// # Errors
    /// When the file cannot be read or made, others may read it, or it holds no good keys.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::File {
            path: path.to_path_buf(),
            source,
        };
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(failed)?;
                Self::load(path, File::open(path).map_err(failed)?)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// From configuration, in the file's format.
    ///
    /// # Errors
    /// When it holds no good keys.
    pub fn from_secret(secret: &SecretString) -> Result<Self, MasterKeyError> {
        let mut keys = Vec::new();
        let lines = secret.expose_secret().lines().map(str::trim).enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            keys.push(One::parse(line).ok_or(MasterKeyError::Malformed { line: index + 1 })?);
        }
        if keys.is_empty() {
            Err(MasterKeyError::Empty)
        } else {
            Ok(Self { keys })
        }
    }

    fn load(path: &Path, file: File) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::File {
            path: path.to_path_buf(),
            source,
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file",
            )));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Exposed {
                path: path.to_path_buf(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
        Self::from_secret(&SecretString::from(text.as_str()))
    }

    /// The id of the key that wraps.
    pub fn current_id(&self) -> &str {
        &self.keys[0].id
    }

    /// What the keys of new tags are derived from.
    pub(crate) fn current_tags(&self) -> &hmac::Key {
        &self.keys[0].tags
    }

    /// What the keys of tags in use are derived from, newest first.
    pub(crate) fn all_tags(&self) -> impl Iterator<Item = &hmac::Key> {
        self.keys.iter().map(|one| &one.tags)
    }

    /// Wraps `secret`; only the same `place` unwraps it.
    pub(crate) fn wrap(&self, place: &str, secret: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let mut sealed = secret.to_vec();
        let nonce = self.keys[0]
            .key
            .seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut sealed)
            .map_err(|_| MasterKeyError::Crypto)?;
        let mut wrapped = nonce.as_ref().to_vec();
        wrapped.append(&mut sealed);
        Ok(wrapped)
    }

    /// What [`Self::wrap`] wrapped for `place` by the key `id`.
    pub(crate) fn unwrap(
        &self,
        id: &str,
        place: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        let one = self
            .keys
            .iter()
            .find(|one| one.id == id)
            .ok_or_else(|| MasterKeyError::Missing { id: id.to_owned() })?;
        let (nonce, sealed) = wrapped.split_at_checked(12).ok_or(MasterKeyError::Tampered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| MasterKeyError::Tampered)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let length = one
            .key
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut opened)
            .map_err(|_| MasterKeyError::Tampered)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

impl One {
    fn parse(line: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0_u8; 32]);
        hex::decode_to_slice(line, &mut *key).ok()?;
        let mut seen = [false; 256];
        key.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        if seen.iter().filter(|seen| **seen).count() < MIN_VARIETY {
            return None;
        }
        let id = hex::encode(&sha256(&[b"carillon master key\0", &*key])[..8]);
        Some(Self {
            id,
            key: RandomizedNonceKey::new(&AES_256_GCM, &*key).ok()?,
            tags: seal::extract(&*key),
        })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|one| &one.id))
            .finish()
    }
}

/// Makes the file whole or not at all, and leaves one alone that another process made meanwhile.
fn create(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0_u8; 32]);
    let mut tag = [0_u8; 8];
    let no_random = |_| io::Error::other("the operating system gave no random bytes");
    aws_lc_rs::rand::fill(&mut *key).map_err(no_random)?;
    aws_lc_rs::rand::fill(&mut tag).map_err(no_random)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", hex::encode(tag)));
    let fresh = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        let text = Zeroizing::new(hex::encode(*key));
        writeln!(file, "{}", *text)?;
        file.sync_all()?;
        // Unlike a rename, a link never replaces.
        match std::fs::hard_link(&fresh, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    })();
    let _ = std::fs::remove_file(&fresh);
    written?;
    // Without this a power cut could take the name away and leave secrets that nothing unwraps.
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const NEW: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

    #[test]
    fn the_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        let first = MasterKey::load_or_create(&path).expect("made");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let again = MasterKey::load_or_create(&path).expect("read");
        assert_eq!(first.current_id(), again.current_id());
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "no temporary file stays");
    }

    #[test]
    fn processes_that_start_at_once_share_one_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        MasterKey::load_or_create(&path)
                            .expect("made")
                            .current_id()
                            .to_owned()
                    })
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().expect("no panic"))
                .collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        MasterKey::load_or_create(&path).expect("made");
        for mode in [0o640, 0o604, 0o644, 0o660, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
            let refused = MasterKey::load_or_create(&path);
            assert!(matches!(refused, Err(MasterKeyError::Exposed { .. })), "{mode:o}");
        }
    }

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        let zeros = "0".repeat(64);
        let repeated = "deadbeef".repeat(8);
        for bad in [
            "",
            "# nothing",
            "secret",
            zeros.as_str(),
            repeated.as_str(),
            &OLD[..62],
            &format!("{OLD}00"),
        ] {
            assert!(MasterKey::from_secret(&bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_key_wraps_and_all_unwrap_in_their_place_only() {
        let old = MasterKey::from_secret(&OLD.into()).expect("good");
        let both = MasterKey::from_secret(&format!("# new\n{NEW}\n\n{OLD}\n").into()).expect("good");
        let new = MasterKey::from_secret(&NEW.into()).expect("good");
        let wrapped = old.wrap("here", b"canary").expect("wraps");
        assert!(!wrapped.windows(6).any(|window| window == b"canary"));
        assert_ne!(
            wrapped,
            old.wrap("here", b"canary").expect("wraps"),
            "a fresh nonce each time"
        );
        let id = old.current_id();
        assert_eq!(
            both.unwrap(id, "here", &wrapped).expect("unwraps").as_slice(),
            b"canary"
        );
        assert_eq!(both.current_id(), new.current_id());
        assert!(matches!(
            new.unwrap(id, "here", &wrapped),
            Err(MasterKeyError::Missing { .. })
        ));
        assert!(matches!(
            old.unwrap(id, "there", &wrapped),
            Err(MasterKeyError::Tampered)
        ));
        let mut changed = wrapped.clone();
        changed[13] ^= 1;
        assert!(matches!(
            old.unwrap(id, "here", &changed),
            Err(MasterKeyError::Tampered)
        ));
        assert!(matches!(
            old.unwrap(id, "here", &wrapped[..5]),
            Err(MasterKeyError::Tampered)
        ));
    }
}
