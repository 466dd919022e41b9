//! Patches of the three kinds, tried on an object (`dryRun`): none is a fault of the server's, makes
//! another object of it, or changes what is stored.
//!
//! The first line says how and what is patched: `strategic deployments`, `json pods/status`; the rest
//! is the patch.

use crate::kube;

pub(crate) fn run(data: &[u8]) {
    let (line, body) = kube::first_line(data);
    let (kind, target) = line.split_once(' ').unwrap_or((&line, ""));
    let media = match kind {
        "json" => "application/json-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        _ => "application/merge-patch+json",
    };
    let (resource, subresource) = target.split_once('/').unwrap_or((target, ""));
    let object = format!("{}/p", kube::path_of(resource));
    let below = if subresource == "status" { "/status" } else { "" };
    kube::with(|server| {
        let (_, before) = server.get(&object);
        let path = format!("{object}{below}?dryRun=All&fieldManager=m");
        let Some((code, answer)) = server.try_send("PATCH", &path, media, body.to_vec()) else {
            return;
        };
        assert!(code < 500, "{path}: {answer}");
        if code == 200 {
            assert_eq!(answer["kind"], before["kind"]);
            for field in ["name", "namespace", "uid", "creationTimestamp"] {
                assert_eq!(answer["metadata"][field], before["metadata"][field], "{field}");
            }
        }
        assert_eq!(server.get(&object).1, before, "it was only tried");
    });
}
