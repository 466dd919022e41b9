//! The session documents that AWS owns, and what they say to an agent.
//!
//! Deviation: there are no documents of the account's own; `SSM-SessionManagerRunShell`, which holds
//! the account's preferences, is as AWS makes it: nothing is encrypted by KMS or logged to S3 or
//! CloudWatch, and the shell is `ssm-user`'s.

use aws_ssm::{channel::DocumentContent, session::Parameters};
use aws_wire::Fault;
use serde_json::{Value, json};

use crate::faults;

/// The document of a session that names none.
pub(crate) const DEFAULT: &str = "SSM-SessionManagerRunShell";

/// What of a parameter is allowed.
#[derive(Clone, Copy)]
enum Allowed {
    Port,
    /// 0: any.
    LocalPort,
    Host,
    Command,
}

struct Document {
    name: &'static str,
    session_type: &'static str,
    /// Name, what is allowed, and what it is where it is not given.
    parameters: &'static [(&'static str, Allowed, Option<&'static str>)],
}

const DOCUMENTS: [Document; 6] = [
    Document { name: DEFAULT, session_type: "Standard_Stream", parameters: &[] },
    Document {
        name: "AWS-StartInteractiveCommand",
        session_type: "InteractiveCommands",
        parameters: &[("command", Allowed::Command, None)],
    },
    Document {
        name: "AWS-StartNonInteractiveCommand",
        session_type: "NonInteractiveCommands",
        parameters: &[("command", Allowed::Command, None)],
    },
    Document {
        name: "AWS-StartSSHSession",
        session_type: "Port",
        parameters: &[("portNumber", Allowed::Port, Some("22"))],
    },
    Document {
        name: "AWS-StartPortForwardingSession",
        session_type: "Port",
        parameters: &[
            ("portNumber", Allowed::Port, Some("80")),
            ("localPortNumber", Allowed::LocalPort, Some("0")),
        ],
    },
    Document {
        name: "AWS-StartPortForwardingSessionToRemoteHost",
        session_type: "Port",
        parameters: &[
            ("portNumber", Allowed::Port, Some("80")),
            ("localPortNumber", Allowed::LocalPort, Some("0")),
            ("host", Allowed::Host, None),
        ],
    },
];

/// What the agent is told for a session by this document.
pub(crate) fn content(name: &str, given: &Parameters) -> Result<DocumentContent, Fault> {
    let document = DOCUMENTS.iter().find(|it| it.name == name);
    let document = document.ok_or_else(|| faults::no_document(name))?;
    let known = |it: &str| document.parameters.iter().any(|(name, ..)| *name == it);
    if let Some(unknown) = given.keys().find(|it| !known(it)) {
        return Err(faults::parameters(format!(
            "Parameter \"{unknown}\" is not defined in the document {name}."
        )));
    }
    let mut properties = json!({});
    for (name, allowed, default) in document.parameters {
        let value = match given.get(*name).map(Vec::as_slice) {
            Some([value]) => value.as_str(),
            None => default.ok_or_else(|| {
                faults::parameters(format!("Parameter \"{name}\" requires a value."))
            })?,
            Some(_) => {
                return Err(faults::parameters(format!("Parameter \"{name}\" has one value.")));
            }
        };
        check(name, *allowed, value)?;
        match allowed {
            Allowed::Command => properties["linux"] = json!({ "commands": value }),
            _ => properties[*name] = Value::from(value),
        }
    }
    // SSH is carried for one connection, which the client holds itself.
    if document.session_type == "Port" && document.name != "AWS-StartSSHSession" {
        properties["type"] = Value::from("LocalPortForwarding");
    }
    Ok(DocumentContent {
        schema_version: "1.0".to_owned(),
        session_type: document.session_type.to_owned(),
        properties,
    })
}

fn check(name: &str, allowed: Allowed, value: &str) -> Result<(), Fault> {
    let port = value.parse::<u16>().ok().filter(|_| value.bytes().all(|it| it.is_ascii_digit()));
    let (is_good, pattern) = match allowed {
        Allowed::Port => (port.is_some_and(|it| it > 0), "a port from 1 to 65535"),
        Allowed::LocalPort => (port.is_some(), "a port from 0 to 65535"),
        Allowed::Host => {
            let is_plain = |it: u8| it.is_ascii_alphanumeric() || b".:_-".contains(&it);
            (!value.is_empty() && value.len() <= 255 && value.bytes().all(is_plain), "a host")
        }
        Allowed::Command => (!value.is_empty() && value.len() <= 8192, "a command"),
    };
    match is_good {
        true => Ok(()),
        false => Err(faults::parameters(format!(
            "Parameter \"{name}\" has value \"{value}\", which is not {pattern}."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
    }

    fn code(name: &str, pairs: &[(&str, &str)]) -> String {
        content(name, &given(pairs)).unwrap_err().code.into_owned()
    }

    #[test]
    fn a_document_says_which_session_it_is_with_its_parameters() {
        let forward = "AWS-StartPortForwardingSession";
        let content = content(forward, &given(&[("portNumber", "8080")])).unwrap();
        assert_eq!(content.session_type, "Port");
        let properties = json!({
            "portNumber": "8080", "localPortNumber": "0", "type": "LocalPortForwarding",
        });
        assert_eq!(content.properties, properties);
        let ssh = super::content("AWS-StartSSHSession", &Parameters::new()).unwrap();
        assert_eq!(ssh.properties, json!({ "portNumber": "22" }));
    }

    #[test]
    fn what_a_document_does_not_take_is_refused() {
        assert_eq!(code("Nobodys", &[]), "InvalidDocument");
        assert_eq!(code(DEFAULT, &[("command", "ls")]), "InvalidParameters");
        assert_eq!(code("AWS-StartInteractiveCommand", &[]), "InvalidParameters");
        for port in ["0", "65536", "-1", "+80", "80 ", "x", ""] {
            let pairs = [("portNumber", port)];
            assert_eq!(
                code("AWS-StartPortForwardingSession", &pairs),
                "InvalidParameters",
                "{port}"
            );
        }
        let remote = "AWS-StartPortForwardingSessionToRemoteHost";
        assert_eq!(code(remote, &[("host", "a b")]), "InvalidParameters");
        assert_eq!(code(remote, &[]), "InvalidParameters");
    }
}
