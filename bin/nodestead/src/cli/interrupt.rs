//! The flags of `interrupt`.

use clap::Args;
use jiff::SignedDuration;

use super::{At, Output};

#[derive(Args, Debug)]
pub(crate) struct Interrupt {
    #[command(flatten)]
    pub(crate) at: At,
    /// Instance ids or nodes' names
    #[arg(required = true)]
    pub(crate) instances: Vec<String>,
    /// When they end, two to fifteen minutes from now; they are warned two minutes before
    #[arg(long, default_value = "2m", allow_hyphen_values = true, value_parser = wait)]
    pub(crate) r#in: SignedDuration,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `2m`, `150s`, or as ISO 8601 has it.
fn wait(text: &str) -> Result<SignedDuration, String> {
    let found: Result<SignedDuration, _> = text.parse();
    let is_in = |it: &SignedDuration| (2 * 60..=15 * 60).contains(&it.as_secs());
    let why = "write it as 2m, 150s or PT5M, from two minutes to fifteen";
    found.ok().filter(is_in).ok_or_else(|| why.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};

    #[test]
    fn an_interruption_comes_in_two_to_fifteen_minutes() {
        let parse = |text: &str| {
            let parsed = Cli::try_parse_from(["nodestead", "interrupt", "i-1", "--in", text])?;
            let Command::Interrupt(args) = parsed.command else { panic!("another command") };
            Ok::<_, clap::Error>(args.r#in.as_secs())
        };
        for (text, seconds) in [("2m", 120), ("150s", 150), ("PT5M", 300), ("15m", 900)] {
            assert_eq!(parse(text).unwrap(), seconds, "{text}");
        }
        for wrong in ["soon", "1m", "16m", "-5m", ""] {
            let refused = parse(wrong).unwrap_err().to_string();
            assert!(refused.contains("from two minutes to fifteen"), "{wrong}: {refused}");
        }
    }
}
