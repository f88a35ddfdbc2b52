//! `completions` and `man`: shell completions and manual pages, made from the argument parser.

use super::out::Stdout;
use super::{Common, Verdict, output};
use aircache::{Error, Result};
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::PathBuf;

/// Prints the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache completions bash > ~/.local/share/bash-completion/completions/aircache
  aircache completions zsh > ~/.zfunc/_aircache
  aircache completions fish > ~/.config/fish/completions/aircache.fish")]
pub struct Completions {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the manual page, or writes a page for every command into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aircache man > aircache.1 && man ./aircache.1
  aircache man run | man -l -
  aircache man --out ~/.local/share/man/man1")]
pub struct Manual {
    /// The page of a command [default: the page of aircache]
    #[arg(value_name = "COMMAND")]
    page: Option<String>,
    /// A folder for all pages; it is created if it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    out: Option<PathBuf>,
}

/// The command `completions`.
pub fn completions(args: Completions, mut cli: clap::Command) -> Result<Verdict> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "aircache", &mut text);
    Stdout::new().text(&String::from_utf8_lossy(&text)).map(|()| Verdict::Pass)
}

/// The command `man`.
pub fn manual(args: Manual, common: &Common, mut cli: clap::Command) -> Result<Verdict> {
    cli.build();
    let commands: Vec<clap::Command> = cli.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    if let Some(folder) = &args.out {
        let all = std::iter::once(&cli).chain(&commands);
        let pages = all.map(|c| Ok((format!("{}.1", name(c)), page(c)?.into_bytes().into())));
        output::write_folder(folder, pages.collect::<Result<Vec<_>>>()?)?;
        common.messages().say(&format!("{} pages in {}", commands.len() + 1, folder.display()));
        return Ok(Verdict::Pass);
    }
    let command = match &args.page {
        None => &cli,
        Some(wanted) => commands.iter().find(|c| c.get_name() == wanted).ok_or_else(|| {
            let names: Vec<_> = commands.iter().map(clap::Command::get_name).collect();
            Error::new("man", format!("one of {}", names.join(", ")), format!("{wanted:?}"))
        })?,
    };
    Stdout::new().text(&page(command)?).map(|()| Verdict::Pass)
}

/// `aircache`, `aircache-run`.
fn name(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_string()
}

/// A page in roff.
fn page(command: &clap::Command) -> Result<String> {
    let mut text = Vec::new();
    let man = Man::new(command.clone()).title(name(command));
    man.render(&mut text).map_err(|e| Error::new("man", "a page that can be written", e))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
