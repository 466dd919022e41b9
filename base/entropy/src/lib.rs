//! Randomness: AWS-shaped identifiers, Kubernetes name suffixes, UIDs, secrets.
//!
//! **Invariant:** no other crate draws random bytes for names. Everything here comes from the
//! kernel's generator, so the same functions serve secrets.

/// The alphabet of `generateName` (`k8s.io/apimachinery/pkg/util/rand`): no vowels, no 0, 1, 3.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// `N` random bytes from the kernel.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    getrandom::fill(&mut out).expect("the kernel's random generator does not fail once seeded");
    out
}

/// `len` random lower-case hexadecimal digits.
pub fn hex(len: usize) -> String {
    pick(b"0123456789abcdef", len)
}

/// An EC2-style identifier: `prefix-` and 17 hexadecimal digits (`i-0123456789abcdef0`).
pub fn aws_id(prefix: &str) -> String {
    format!("{prefix}-0{}", hex(16))
}

/// An IAM-style unique id: a four-letter prefix (`AROA`, `AIDA`, `AKIA`, `ASIA`) and 17 characters.
pub fn iam_id(prefix: &str) -> String {
    format!("{prefix}{}", pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 17))
}

/// A suffix as `generateName` appends it.
pub fn name_suffix(len: usize) -> String {
    pick(NAME_ALPHABET, len)
}

/// A random (version 4) UUID.
pub fn uuid() -> String {
    let mut raw = bytes::<16>();
    raw[6] = (raw[6] & 0x0f) | 0x40;
    raw[8] = (raw[8] & 0x3f) | 0x80;
    let digits: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let (a, b, c, d, e) =
        (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// `len` characters for a secret (letters and digits).
pub fn secret(len: usize) -> String {
    pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", len)
}

/// A number below `bound`, which must not be zero.
pub fn below(bound: u64) -> u64 {
    // Multiplying keeps the bias below 2^-64 * bound.
    let wide = u128::from(u64::from_le_bytes(bytes::<8>())) * u128::from(bound);
    u64::try_from(wide >> 64).expect("a product shifted by 64 fits in 64 bits")
}

fn pick(alphabet: &[u8], len: usize) -> String {
    let size = alphabet.len() as u64;
    let index = || usize::try_from(below(size)).expect("an alphabet fits in memory");
    (0..len).map(|_| char::from(alphabet[index()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_the_shape_that_clients_check() {
        assert_eq!(aws_id("i").len(), "i-0123456789abcdef0".len());
        assert_eq!(iam_id("AROA").len(), 21);
        assert_eq!(uuid().as_bytes()[14], b'4');
        assert_ne!(uuid(), uuid());
    }

    #[test]
    fn below_stays_below_its_bound() {
        assert!((0..1000).all(|_| below(3) < 3));
    }
}
