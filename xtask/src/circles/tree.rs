//! The modules of a crate, and what each of them names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path as FilePath, PathBuf};

use anyhow::{Context, Result};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemFn, ItemMod, ItemUse, Path, UseTree};

/// Names from the root of the crate down.
pub type Name = Vec<String>;

/// A re-export that leads to itself ends the search.
const MAX_ALIASES: usize = 8;

/// The modules of a crate.
#[derive(Default)]
pub struct Tree {
    modules: BTreeMap<Name, Module>,
}

#[derive(Default)]
struct Module {
    /// The paths it names, from the root of the crate.
    named: BTreeSet<Name>,
    /// What its `use` items bring in: the short name, and the path it stands for.
    aliases: BTreeMap<String, Name>,
    /// Modules whose contents it brings in by `use module::*`.
    globs: BTreeSet<Name>,
}

impl Tree {
    /// Reads a crate from its first file.
    pub fn read(root: &FilePath) -> Result<Self> {
        let mut tree = Self::default();
        let folder = root.parent().context("no folder")?.to_owned();
        tree.read_file(root, &folder, Vec::new())?;
        Ok(tree)
    }

    /// Who names whom: pairs of modules.
    pub fn imports(&self) -> impl Iterator<Item = (&Name, Name)> {
        self.modules.iter().flat_map(move |(from, module)| {
            let named = module.named.iter().chain(&module.globs);
            named.filter_map(move |path| Some((from, self.resolve(path)?)))
        })
    }

    /// The module in which what a path names is defined.
    fn resolve(&self, path: &Name) -> Option<Name> {
        let mut path = path.clone();
        for _ in 0..MAX_ALIASES {
            let depth = (0..=path.len()).rev().find(|n| self.modules.contains_key(&path[..*n]))?;
            let (module, rest) = path.split_at(depth);
            let alias = rest.first().and_then(|name| self.modules[module].aliases.get(name));
            match alias {
                Some(target) if *target != path[..=depth] => {
                    path = target.iter().chain(&rest[1..]).cloned().collect();
                }
                _ => return Some(module.to_vec()),
            }
        }
        None
    }

    fn read_file(&mut self, file: &FilePath, folder: &FilePath, name: Name) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let parsed = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        self.read_items(&parsed.items, file, folder, name)
    }

    fn read_items(
        &mut self,
        items: &[Item],
        file: &FilePath,
        folder: &FilePath,
        name: Name,
    ) -> Result<()> {
        let mut reader = Reader { name: &name, module: Module::default() };
        items.iter().for_each(|item| reader.visit_item(item));
        let module = reader.module;
        self.modules.insert(name.clone(), module);
        for item in items {
            let Item::Mod(inner) = item else { continue };
            if is_for_tests(&inner.attrs) {
                continue;
            }
            let word = inner.ident.to_string();
            let inside = [name.clone(), vec![word.clone()]].concat();
            match &inner.content {
                Some((_, items)) => self.read_items(items, file, &folder.join(&word), inside)?,
                None => {
                    let (file, folder) = place(inner, file, folder, &word)?;
                    self.read_file(&file, &folder, inside)?;
                }
            }
        }
        Ok(())
    }
}

/// The file of a module, and the folder of those inside it.
fn place(
    module: &ItemMod,
    parent: &FilePath,
    folder: &FilePath,
    word: &str,
) -> Result<(PathBuf, PathBuf)> {
    if let Some(path) = module.attrs.iter().find_map(path_attribute) {
        let file = parent.parent().context("no folder")?.join(path);
        let folder = file.parent().context("no folder")?.to_owned();
        return Ok((file, folder));
    }
    let inside = folder.join(word);
    let candidates = [folder.join(format!("{word}.rs")), inside.join("mod.rs")];
    let file = candidates.into_iter().find(|file| file.is_file());
    Ok((file.with_context(|| format!("no file of module {word}"))?, inside))
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    let syn::Meta::NameValue(meta) = &attribute.meta else { return None };
    let syn::Expr::Lit(value) = &meta.value else { return None };
    let syn::Lit::Str(text) = &value.lit else { return None };
    meta.path.is_ident("path").then(|| text.value())
}

/// Whether an item is compiled only for tests.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let tokens = list.tokens.to_string();
            tokens == "test" || tokens.starts_with("all (test") || tokens.starts_with("any (test")
        }
        _ => false,
    })
}

/// Collects what the items of one module name.
struct Reader<'a> {
    name: &'a Name,
    module: Module,
}

impl Reader<'_> {
    /// A path of this crate from its root, or `None` for one that leads elsewhere.
    fn absolute(&self, path: &[String]) -> Option<Name> {
        let up = path.iter().take_while(|word| *word == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([self.name, &path[1..]].concat()),
            "super" => {
                let base = &self.name[..self.name.len().checked_sub(up)?];
                Some([base, &path[up..]].concat())
            }
            // A child of this module, or another crate; `resolve` finds only the first.
            _ => Some([self.name, path].concat()),
        }
    }

    fn read_use(&mut self, tree: &UseTree, before: &[String]) {
        match tree {
            UseTree::Path(path) => {
                let word = path.ident.to_string();
                self.read_use(&path.tree, &[before, &[word]].concat());
            }
            UseTree::Name(name) => {
                let word = name.ident.to_string();
                self.bring_in(before, &word, &word);
            }
            UseTree::Rename(rename) => {
                let (word, short) = (rename.ident.to_string(), rename.rename.to_string());
                self.bring_in(before, &word, &short);
            }
            UseTree::Glob(_) => {
                let target = self.absolute(before);
                self.module.globs.extend(target);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.read_use(tree, before));
            }
        }
    }

    fn bring_in(&mut self, before: &[String], word: &str, short: &str) {
        let own = word == "self";
        let path = if own { before.to_vec() } else { [before, &[word.to_owned()]].concat() };
        let short = if own { before.last().map_or("", String::as_str) } else { short };
        let Some(target) = self.absolute(&path) else { return };
        self.module.named.insert(target.clone());
        self.module.aliases.insert(short.to_owned(), target);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) && item.leading_colon.is_none() {
            self.read_use(&item.tree, &[]);
        }
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {
        // Read by itself.
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let words: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A single word names something that a `use` item brought in, or that is defined here.
        if words.len() > 1 && path.leading_colon.is_none() {
            let target = self.absolute(&words);
            self.module.named.extend(target);
        }
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes files, reads them as a crate, and returns who names whom.
    fn imports(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let tree = Tree::read(&folder.path().join("lib.rs")).unwrap();
        tree.imports()
            .map(|(from, to)| (from.join("::"), to.join("::")))
            .filter(|(from, to)| from != to)
            .collect()
    }

    #[test]
    fn paths_are_found_in_use_items_and_in_code() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; fn f() { super::c::g(); }"),
            ("b.rs", "pub struct B;"),
            ("c.rs", "pub fn g() {}"),
        ]);
        assert_eq!(found, [("a".into(), "b".into()), ("a".into(), "c".into())]);
    }

    #[test]
    fn a_re_export_leads_to_where_a_thing_is_defined() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b; pub use b::inner::Thing as Other;"),
            ("a.rs", "use crate::Other;"),
            ("b/mod.rs", "pub mod inner;"),
            ("b/inner.rs", "pub struct Thing;"),
        ]);
        assert!(found.contains(&("a".into(), "b::inner".into())), "{found:?}");
    }

    #[test]
    fn tests_do_not_count() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "pub struct B;"),
        ]);
        assert_eq!(found, []);
    }
}
