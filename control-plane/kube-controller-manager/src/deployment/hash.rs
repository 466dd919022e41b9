//! The `pod-template-hash`: a short name for a pod template.
//!
//! Deviation: upstream hashes a Go dump of its own structures, which nobody else can reproduce;
//! this is FNV-1a over the template's JSON (keys in a fixed order) and the collision count. It is
//! stable for one template, which is all that anybody relies on.

use k8s_openapi::api::core::v1::PodTemplateSpec;

const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// Up to ten letters that are safe in a name.
pub(crate) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let json = serde_json::to_vec(template).unwrap_or_default();
    let salt = collisions.map(i32::to_le_bytes);
    let bytes = json.iter().chain(salt.iter().flatten());
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME));
    safe(&hash.to_string())
}

/// Upstream's `SafeEncodeString`: no vowels, so that no words appear.
pub(crate) fn safe(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        let value = json!({ "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": image }] } });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_hash_follows_the_template_and_the_collision_count() {
        let hash = template_hash(&template("a"), None);
        assert_eq!(hash, template_hash(&template("a"), None));
        assert_ne!(hash, template_hash(&template("b"), None));
        assert_ne!(hash, template_hash(&template("a"), Some(1)));
        assert!(hash.bytes().all(|it| ALPHABET.contains(&it)) && hash.len() <= 10);
    }
}
