//! Reading the command line.

use clap::{Arg, Command, CommandFactory, FromArgMatches};

use super::Cli;

/// What the user has written; who wrote it wrong is told, and the process ends.
pub(crate) fn parse() -> Cli {
    let mut command = command();
    let mut found = command.get_matches_mut();
    Cli::from_arg_matches_mut(&mut found).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// After a flag `-5` is its value, and not a flag that nobody knows: whoever writes it reads what is wrong
/// with it.
pub(crate) fn command() -> Command {
    with_negative_numbers(Cli::command())
}

fn with_negative_numbers(command: Command) -> Command {
    let takes = |it: &Arg| !it.is_positional() && it.get_action().takes_values();
    command
        .mut_args(|it| if takes(&it) { it.allow_negative_numbers(true) } else { it })
        .mut_subcommands(with_negative_numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let words = std::iter::once("nodestead").chain(line.split(' '));
        let error = command().try_get_matches_from(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_what_may_be_written() {
        for (line, why) in [
            ("plan --spot-price -5", "invalid value '-5' for '--spot-price"),
            ("plan --spot-price 101", "101 is not in 0..=100"),
            ("plan --spot-price 3.5", "invalid value '3.5'"),
            ("up --nodes -1", "-1 is not in 0..=450"),
            ("up --aws-port -1", "invalid value '-1' for '--aws-port"),
            ("up --api-port 0", "0 is not in 1..=65535"),
            ("up --spot-seed -1", "invalid value '-1' for '--spot-seed"),
            ("kubeconfig --hours 0", "0 is not in 1..=87600"),
            ("kubeconfig --hours -3", "-3 is not in 1..=87600"),
            ("explain subnet subnet-1 --minutes -1", "-1 is not in 1..=360"),
            ("run cluster-autoscaler --max-nodes-per-scaleup -1", "invalid value '-1'"),
        ] {
            let said = refused(line);
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    #[test]
    fn a_flag_that_nobody_knows_is_still_one() {
        assert!(refused("plan -5").contains("unexpected argument '-5'"));
    }
}
