//! The keys of service-account tokens over time: when the next one is made, which one signs, and how
//! long the older ones are believed.
//!
//! A new key signs from seven days after the one before it on. It is published a day earlier, so that
//! whoever keeps the public keys for a while has it when its first token comes; and it stays
//! published after it was replaced for as long as the longest of its tokens may live.

use std::time::Duration;

use jiff::Timestamp;

use crate::ServiceAccountKey;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a key signs: EKS's period.
const PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a key is published before it signs.
const AHEAD: Duration = DAY;
/// The longest life of a token: one of the default volume, which EKS extends to 90 days. A day is for
/// clocks that differ.
const LIFE: Duration = Duration::from_secs(91 * 24 * 3600);

/// A key, and since when it signs.
#[derive(Clone, Debug)]
pub struct DatedKey {
    pub since: Timestamp,
    pub key: ServiceAccountKey,
}

/// See the module. In the order of their dates.
#[derive(Clone, Debug, Default)]
pub struct KeyRing(Vec<DatedKey>);

impl KeyRing {
    pub fn new(mut keys: Vec<DatedKey>) -> Self {
        keys.sort_by_key(|it| it.since);
        Self(keys)
    }

    /// From when on the next key shall sign, if it is time to make it.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let Some(last) = self.0.last() else { return Some(now) };
        let next = last.since + PERIOD;
        // A server that stood still for long publishes a day ahead all the same.
        (now + AHEAD >= next).then(|| next.max(now + AHEAD))
    }

    pub fn add(&mut self, key: DatedKey) {
        self.0.push(key);
        self.0.sort_by_key(|it| it.since);
    }

    /// Takes out the keys whose last token has expired.
    pub fn retire(&mut self, now: Timestamp) -> Vec<DatedKey> {
        let mut retired = Vec::new();
        while let [_, next, ..] = self.0.as_slice()
            && next.since + LIFE <= now
        {
            retired.push(self.0.remove(0));
        }
        retired
    }

    /// All keys that are believed: the one that signs comes first.
    pub fn at(&self, now: Timestamp) -> Vec<ServiceAccountKey> {
        // The clock may have gone back to before the first of them.
        let signing = self.0.iter().rposition(|it| it.since <= now).unwrap_or(0);
        let others = self.0.iter().enumerate().filter(|(index, _)| *index != signing);
        let signing = self.0.get(signing).into_iter();
        signing.chain(others.map(|(_, it)| it)).map(|it| it.key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static KEYS: LazyLock<Vec<ServiceAccountKey>> =
        LazyLock::new(|| (0..3).map(|_| ServiceAccountKey::generate().unwrap()).collect());

    fn day(days: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + DAY * u32::try_from(days).unwrap()
    }

    fn ring(since: &[u64]) -> KeyRing {
        let dated = since.iter().zip(KEYS.iter());
        KeyRing::new(
            dated.map(|(days, key)| DatedKey { since: day(*days), key: key.clone() }).collect(),
        )
    }

    fn ids(keys: &[ServiceAccountKey]) -> Vec<usize> {
        let of = |key: &ServiceAccountKey| KEYS.iter().position(|it| it.key_id() == key.key_id());
        keys.iter().map(|it| of(it).unwrap()).collect()
    }

    #[test]
    fn the_first_key_signs_at_once_and_the_next_is_made_a_day_before_its_week() {
        assert_eq!(ring(&[]).due(day(3)), Some(day(3)));
        assert_eq!(ring(&[0]).due(day(5)), None);
        assert_eq!(ring(&[0]).due(day(6)), Some(day(7)));
        assert_eq!(ring(&[0, 7]).due(day(6)), None);
    }

    #[test]
    fn after_a_long_pause_the_next_key_is_still_published_a_day_ahead() {
        assert_eq!(ring(&[0]).due(day(40)), Some(day(41)));
    }

    #[test]
    fn the_newest_key_whose_time_has_come_signs_and_the_others_are_believed() {
        assert_eq!(ids(&ring(&[0, 7]).at(day(6))), [0, 1]);
        assert_eq!(ids(&ring(&[0, 7]).at(day(7))), [1, 0]);
        assert_eq!(ids(&ring(&[0, 7, 14]).at(day(20))), [2, 0, 1]);
        assert_eq!(ids(&ring(&[7, 14]).at(day(1))), [0, 1]);
        assert!(ring(&[]).at(day(1)).is_empty());
    }

    #[test]
    fn a_key_goes_when_the_last_token_it_may_have_signed_has_expired() {
        let mut kept = ring(&[0, 7, 14]);
        assert!(kept.retire(day(7 + 90)).is_empty());
        assert_eq!(kept.retire(day(7 + 91)).len(), 1);
        assert_eq!(ids(&kept.at(day(7 + 91))), [2, 1]);
        // The last one stays, however old it is.
        let mut alone = ring(&[0]);
        assert!(alone.retire(day(1000)).is_empty());
    }
}
