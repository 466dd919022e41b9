//! The kernel's words when it kills for memory: a record that says who asked for too much, many about
//! the memory, and one that names the group whose limit it was, or none, and the process that was killed.
//!
//! Only records of the kernel count: any program that may write the log could say the same.

/// A process that the kernel killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kill {
    /// The cgroup whose limit was met; of the machine as a whole there is none.
    pub group: Option<String>,
    /// Its name and number.
    pub victim: Option<(String, u32)>,
}

/// What was read so far of a kill.
#[derive(Debug, Default)]
pub(super) struct Parser {
    is_inside: bool,
    /// From kernels before 5.0, which name it in a record of its own.
    group: Option<String>,
}

impl Parser {
    /// Takes a line of the log, which begins with numbers, as `/dev/kmsg` gives it.
    pub(super) fn take(&mut self, line: &str) -> Option<Kill> {
        let text = of_kernel(line)?;
        if text.contains("invoked oom-killer:") {
            *self = Self { is_inside: true, group: None };
            return None;
        }
        if !self.is_inside {
            return None;
        }
        if let Some(group) = between(text, "killed as a result of limit of ", "") {
            self.group = Some(group.to_owned());
            return None;
        }
        let kill = summary(text).or_else(|| {
            let victim = killed(text)?;
            Some(Kill { group: self.group.take(), victim: Some(victim) })
        })?;
        *self = Self::default();
        Some(Kill { group: kill.group.filter(|it| it != "/"), ..kill })
    }
}

/// `6,1234,5678,-;text`: the first number holds the facility, which is 0 for the kernel.
fn of_kernel(line: &str) -> Option<&str> {
    let (head, text) = line.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    (priority >> 3 == 0).then_some(text)
}

/// `oom-kill:constraint=…,nodemask=…,cpuset=…,mems_allowed=…,oom_memcg=G,task_memcg=…,task=T,pid=P,uid=…`,
/// with `global_oom` in the place of the group.
fn summary(text: &str) -> Option<Kill> {
    let text = text.strip_prefix("oom-kill:")?;
    let group = between(text, ",oom_memcg=", ",task_memcg=").map(str::to_owned);
    let process = between(text, ",task=", ",pid=").map(str::to_owned);
    let pid = text.rsplit_once(",pid=").and_then(|(_, it)| it.split(',').next()?.parse().ok());
    Some(Kill { group, victim: process.zip(pid) })
}

/// `… Killed process 123 (name) …`
fn killed(text: &str) -> Option<(String, u32)> {
    let (_, text) = text.split_once("Killed process ")?;
    let (pid, text) = text.split_once(" (")?;
    Some((text.split_once(')')?.0.to_owned(), pid.parse().ok()?))
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, text) = text.split_once(from)?;
    if to.is_empty() { Some(text) } else { Some(text.split_once(to)?.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kills(lines: &[&str]) -> Vec<Kill> {
        let mut parser = Parser::default();
        lines.iter().filter_map(|it| parser.take(it)).collect()
    }

    fn kill(group: Option<&str>, process: &str, pid: u32) -> Kill {
        Kill { group: group.map(str::to_owned), victim: Some((process.to_owned(), pid)) }
    }

    const BEGIN: &str =
        "4,900,10000000,-;stress invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER), order=0";
    const GLOBAL: &str = "6,910,10000005,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/user.slice,task=my app,pid=4242,uid=0";

    #[test]
    fn the_machines_own_kills_are_told_from_those_of_a_group() {
        let memory = "6,905,10000002,-;Mem-Info:";
        let told = "3,911,10000006,-;Out of memory: Killed process 4242 (my app) total-vm:1kB";
        assert_eq!(kills(&[BEGIN, memory, " KEY=v", GLOBAL, told]), [kill(None, "my app", 4242)]);
        let group = "6,920,10000007,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,oom_memcg=/kubepods/pod1,task_memcg=/kubepods/pod1/c,task=tail,pid=7,uid=0";
        assert_eq!(kills(&[BEGIN, group]), [kill(Some("/kubepods/pod1"), "tail", 7)]);
        assert_eq!(kills(&[BEGIN, group, BEGIN, GLOBAL]).len(), 2);
    }

    #[test]
    fn kernels_before_5_say_it_in_two_records() {
        let task =
            "6,921,1,-;Task in /kubepods/pod1/c killed as a result of limit of /kubepods/pod1";
        let killed = "3,922,1,-;Killed process 7 (tail) total-vm:1kB, anon-rss:0kB";
        assert_eq!(kills(&[BEGIN, task, killed]), [kill(Some("/kubepods/pod1"), "tail", 7)]);
        assert_eq!(kills(&[BEGIN, killed]), [kill(None, "tail", 7)]);
    }

    #[test]
    fn what_a_program_writes_and_what_belongs_to_no_kill_is_not_believed() {
        let as_program = |line: &str| format!("12{}", &line[1..]);
        assert!(kills(&[&as_program(BEGIN), &as_program(GLOBAL)]).is_empty());
        assert!(kills(&[BEGIN, &as_program(GLOBAL)]).is_empty());
        assert!(kills(&[GLOBAL, "nonsense", ""]).is_empty());
    }
}
