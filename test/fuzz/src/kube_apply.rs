//! Applied configurations: none is a fault of the server's, and what was applied once changes nothing
//! when it is applied again.
//!
//! The first line names the resource, the rest is the configuration, as YAML or JSON.

use crate::kube;

const MEDIA: &str = "application/apply-patch+yaml";

pub(crate) fn run(data: &[u8]) {
    let (resource, body) = kube::first_line(data);
    let object = format!("{}/applied", kube::path_of(&resource));
    let path = format!("{object}?fieldManager=m");
    kube::with(|server| {
        let free = r#"{"metadata":{"finalizers":null}}"#;
        for (method, body) in [("PATCH", free), ("DELETE", "")] {
            let (code, answer) = server.send(method, &object, "application/merge-patch+json", body);
            assert!(code == 200 || code == 404, "{method}: {answer}");
        }
        let Some((code, first)) = server.try_send("PATCH", &path, MEDIA, body.to_vec()) else {
            return;
        };
        assert!(!is_fault(code, &first), "{path}: {first}");
        let is_made = code == 201;
        if is_made {
            let again = server.try_send("PATCH", &path, MEDIA, body.to_vec());
            let (code, second) = again.expect("it was a request before");
            assert_eq!(code, 200, "{second}");
            assert_eq!(second, first, "nothing was changed");
        }
        // Another manager's own configuration, taken by force: still no fault.
        let forced = format!("{object}?fieldManager=other&force=true");
        if let Some((code, answer)) = server.try_send("PATCH", &forced, MEDIA, body.to_vec()) {
            assert!(!is_fault(code, &answer), "{forced}: {answer}");
        }
    });
}

/// Upstream has the code of a fault for a configuration that does not fit the type.
fn is_fault(code: u16, answer: &impl std::fmt::Display) -> bool {
    code >= 500 && !answer.to_string().contains("failed to create typed patch object")
}
