use super::Unavailable;

/// The master key's two services to the other rooms. `place` binds what is sealed to where it is kept: sealed text
/// that was moved elsewhere does not open.
pub trait Seal: Send + Sync + 'static {
    /// Encrypts a secret for storage.
    fn seal(&self, place: &str, secret: &[u8]) -> Result<String, Unavailable>;

    /// Decrypts what [`Self::seal`] gave for the same place.
    fn open(&self, place: &str, sealed: &str) -> Result<Vec<u8>, Unavailable>;

    /// A tag over `data` that nobody else can make (HMAC-SHA-256 under a key derived for `purpose`): for signed links.
    fn tag(&self, purpose: &str, data: &[u8]) -> [u8; 32];

    /// Whether `tag` is one that any of the keys in use gives; compared in constant time.
    fn is_tag(&self, purpose: &str, data: &[u8], tag: &[u8]) -> bool;
}
