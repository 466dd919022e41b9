//! `nodestead completion`: clap's script for a shell, and over it the names of what is there now:
//! instances, logs, pods. The script asks for those with `nodestead candidates`.
//!
//! **Invariant:** pressing Tab never waits long: whoever does not answer soon has no names.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::CommandFactory;
use clap_complete::Shell;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use super::logs;
use crate::{
    admin::{Admin, DaemonStatus, InstanceStatus},
    cli::{Candidates, Cli, Completed},
    kubernetes,
    layout::Layout,
};

const LIMIT: Duration = Duration::from_secs(1);
/// More would not be read.
const MOST_PODS: u32 = 500;

const BASH: &str = r#"
_nodestead_names() {
    local of="" dir="" i
    case "${COMP_WORDS[1]}" in
        shell) of=instances ;;
        interrupt) of=spot ;;
        logs) of=logs ;;
        explain)
            [[ ${COMP_WORDS[2]} == pod || ${COMP_WORDS[2]} == pod-credentials ]] && of=pods
            [[ ${COMP_WORDS[2]} == node ]] && of=instances
            ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            --) of="" ;;
            --data-dir) dir="${COMP_WORDS[i + 1]}" ;;
        esac
    done
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD - 1]}"
    if [[ -z $of || $cur == -* || $prev == --* || $prev == -o ]] ||
        [[ ${COMP_WORDS[1]} == explain && $COMP_CWORD -lt 3 ]]; then
        _nodestead "$@"
        return
    fi
    COMPREPLY=($(compgen -W "$(nodestead candidates ${dir:+--data-dir "$dir"} $of 2>/dev/null)" -- "$cur"))
}
complete -F _nodestead_names -o nosort -o bashdefault -o default nodestead 2>/dev/null ||
    complete -F _nodestead_names nodestead
"#;

const ZSH: &str = r#"
_nodestead_names() {
    local -a names
    local dir=${words[(ie)--data-dir]}
    local at=${words[dir + 1]}
    names=(${(f)"$(nodestead candidates ${at:+--data-dir $at} $1 2>/dev/null)"})
    compadd -a names
}
"#;

const FISH: &str = r#"
function __nodestead_names
    set -l words (commandline -opc)
    set -l at (contains -i -- --data-dir $words)
    set -l dir
    test -n "$at"; and set dir --data-dir $words[(math $at + 1)]
    nodestead candidates $dir $argv[1] 2>/dev/null
end
complete -c nodestead -n "__fish_seen_subcommand_from shell" -f -a "(__nodestead_names instances)"
complete -c nodestead -n "__fish_seen_subcommand_from interrupt" -f -a "(__nodestead_names spot)"
complete -c nodestead -n "__fish_seen_subcommand_from explain; and __fish_seen_subcommand_from node" -f -a "(__nodestead_names instances)"
complete -c nodestead -n "__fish_seen_subcommand_from logs" -f -a "(__nodestead_names logs)"
complete -c nodestead -n "__fish_seen_subcommand_from explain; and __fish_seen_subcommand_from pod pod-credentials" -f -a "(__nodestead_names pods)"
"#;

pub(crate) fn print(shell: Shell) -> anyhow::Result<()> {
    match io::stdout().write_all(script(shell).as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nodestead", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script + BASH,
        Shell::Zsh => zsh(&script),
        Shell::Fish => script + FISH,
        _ => script,
    }
}

/// Its script names what completes an argument in the argument's own line.
fn zsh(script: &str) -> String {
    let mut text = String::new();
    for (number, line) in script.lines().enumerate() {
        let of = [
            ("':instance -- ", "instances"),
            ("':node -- ", "instances"),
            ("'*::instances -- ", "spot"),
            ("':of -- ", "logs"),
            ("':pod -- ", "pods"),
        ];
        let found = of.iter().find(|(start, _)| line.starts_with(start));
        match found.and_then(|(_, of)| Some((line.rsplit_once(":_default")?, of))) {
            Some(((before, after), of)) => {
                text += &format!("{before}:{{_nodestead_names {of}}}{after}\n");
            }
            None => text += &format!("{line}\n"),
        }
        if number == 0 {
            // After `#compdef`, which must be the first line.
            text += ZSH;
        }
    }
    text
}

pub(crate) async fn candidates(args: Candidates) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let found = tokio::time::timeout(LIMIT, names(&layout, args.of)).await?;
    let mut out = io::stdout();
    for name in found? {
        writeln!(out, "{name}")?;
    }
    Ok(())
}

async fn names(layout: &Layout, of: Completed) -> anyhow::Result<Vec<String>> {
    if of == Completed::Pods {
        let pods = Api::<Pod>::all(kubernetes::client(layout).await?);
        let found = pods.list(&ListParams::default().limit(MOST_PODS)).await?;
        let name = |it: &Pod| format!("{}/{}", it.namespace().unwrap_or_default(), it.name_any());
        return Ok(found.items.iter().map(name).collect());
    }
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let instances = status.instances.into_iter();
    Ok(match of {
        Completed::Logs => log_names(instances.map(|it| (it.id, it.folder))),
        Completed::Spot => {
            instances.filter(InstanceStatus::is_interruptible).map(|it| it.id).collect()
        }
        _ => instances.map(|it| it.id).collect(),
    })
}

fn log_names(instances: impl Iterator<Item = (String, PathBuf)>) -> Vec<String> {
    let mut found: Vec<_> = logs::COMPONENTS.iter().map(|it| (*it).to_owned()).collect();
    for (id, folder) in instances {
        let of_it = logs::names(&folder);
        found.push(id.clone());
        found.extend(of_it.iter().map(|log| format!("{id}/{log}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Command};

    use super::*;

    /// What bash offers for a line, in a region that has these names.
    fn offered(line: &[&str]) -> String {
        let words = line.iter().map(|it| format!("'{it}'")).collect::<Vec<_>>().join(" ");
        let test = format!(
            "nodestead() {{ echo \"called $*\" >&2; [[ $* == *instances ]] && echo i-1 i-2; \
             [[ $* == *spot ]] && echo i-2; [[ $* == *logs ]] && echo daemon i-1/kubelet; [[ $* == *pods ]] && echo ns/p; }}\n\
             complete -p nodestead\nCOMP_WORDS=({words}); COMP_CWORD={}\n\
             _nodestead_names nodestead '{}' '{}'\necho \"=${{COMPREPLY[*]}}\"\n",
            line.len() - 1,
            line[line.len() - 1],
            line[line.len() - 2],
        );
        let script = format!("{}\n{test}", script(Shell::Bash));
        // As a file: one argument may not be as long as the script is.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(script.as_bytes()).unwrap();
        let said = Command::new("bash").arg("--norc").arg(file.path()).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("complete") && text.contains("_nodestead_names"), "{said:?}");
        text.lines().rev().find_map(|it| it.strip_prefix('=')).unwrap_or_default().to_owned()
    }

    #[test]
    fn bash_offers_instances_logs_and_pods_that_are_there() {
        assert_eq!(offered(&["nodestead", "shell", "i-"]), "i-1 i-2");
        assert_eq!(offered(&["nodestead", "shell", "i-2"]), "i-2");
        assert_eq!(offered(&["nodestead", "interrupt", ""]), "i-2");
        assert_eq!(offered(&["nodestead", "logs", "--data-dir", "/x", "da"]), "daemon");
        assert_eq!(offered(&["nodestead", "logs", "i-1/"]), "i-1/kubelet");
        assert_eq!(offered(&["nodestead", "explain", "pod", ""]), "ns/p");
        assert_eq!(offered(&["nodestead", "explain", "pod-credentials", ""]), "ns/p");
        assert_eq!(offered(&["nodestead", "explain", "node", ""]), "i-1 i-2");
        assert_eq!(offered(&["nodestead", "explain", "p"]), "pod path pod-credentials");
        assert_eq!(offered(&["nodestead", "doctor", "i"]), "iam");
        assert!(offered(&["nodestead", "logs", "--"]).contains("--follow"));
    }

    #[test]
    fn zsh_and_fish_ask_for_the_same_names() {
        let (zsh, fish) = (script(Shell::Zsh), script(Shell::Fish));
        assert!(zsh.starts_with("#compdef nodestead\n"), "{}", &zsh[..60]);
        for of in ["instances", "spot", "logs", "pods"] {
            let commands = if of == "logs" || of == "spot" { 1 } else { 2 };
            assert_eq!(
                zsh.matches(&format!(":{{_nodestead_names {of}}}")).count(),
                commands,
                "{of}"
            );
            assert!(fish.contains(&format!("(__nodestead_names {of})")), "{of}");
        }
    }

    #[test]
    fn logs_are_completed_to_those_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("console.log"), "x").unwrap();
        let found = log_names([("i-1".to_owned(), folder.path().to_owned())].into_iter());
        assert_eq!(found, ["daemon", "aws", "i-1", "i-1/console"]);
    }
}
