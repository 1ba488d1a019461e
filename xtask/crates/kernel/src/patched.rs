// SPDX-License-Identifier: MIT OR Apache-2.0
//! A source with a series on top. It can only be made by applying the series to a source.

use std::path::Path;
use std::sync::Arc;

use crate::patch::{self, Base, Overlay};
use crate::series::Series;
use crate::source::SourceTree;
use crate::source_view::{self, Overlaid, Synced};
use vmtest_base::beneath;
use vmtest_base::error::Result;
use vmtest_base::key::Key;
use vmtest_host::context::Context;

/// A source with a series on top, not yet written anywhere as a whole.
#[derive(Debug, Clone)]
pub struct PatchedTree {
    /// Column of the matrix: `src:6.18.15+fsession`.
    id: String,
    /// The source.
    source: SourceTree,
    /// Changes of the series; `None` without one.
    overlay: Option<Overlay>,
    /// The changes of the project's own patches in a trusted source, if untrusted patches follow them.
    trusted: Option<Box<Overlay>>,
    /// The series; `None` without one.
    series: Option<Arc<Series>>,
    /// Hash of source and series.
    key: Key,
}

impl PatchedTree {
    /// A source without a series.
    pub fn unpatched(source: SourceTree) -> PatchedTree {
        let (id, key) = (source.id.clone(), source.key.clone());
        PatchedTree { id, key, source, overlay: None, trusted: None, series: None }
    }

    /// A source with this series on top.
    ///
    /// # Errors
    /// [`vmtest_base::error::Class::SeriesDoesNotApply`] with the patch, file and hunk.
    pub fn patched(ctx: &Context, source: SourceTree, series: &Series) -> Result<PatchedTree> {
        let base = Base {
            dir: &source.dir,
            key: &source.key,
            commit: source.base_commit.as_deref(),
            origin: source.origin.as_ref(),
        };
        let (key, overlay) = patch::apply(ctx, &base, series)?;
        let below = series.before_a_stranger().filter(|_| source.origin.is_none());
        let trusted = below
            .map(|below| patch::apply(ctx, &base, &below))
            .transpose()?
            .map(|(_, overlay)| Box::new(overlay));
        let id = format!("{}+{}", source.id, series.name);
        let series = Some(Arc::new(series.clone()));
        Ok(PatchedTree { id, source, overlay: Some(overlay), trusted, series, key })
    }

    /// Column of the matrix: `src:6.18.15+fsession`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The source.
    pub fn source(&self) -> &SourceTree {
        &self.source
    }

    /// The series; `None` without one.
    pub fn series(&self) -> Option<&Series> {
        self.series.as_deref()
    }

    /// Changes of the series; `None` without one.
    pub fn overlay(&self) -> Option<&Overlay> {
        self.overlay.as_ref()
    }

    /// The changes of the project's own patches in a trusted source, if untrusted patches follow them.
    pub(crate) fn trusted(&self) -> Option<&Overlay> {
        self.trusted.as_deref()
    }

    /// Hash of source and series.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Origin of the makefiles that run when this is built; `None` if all are signed by the archive or
    /// maintained here. A build can write anything to its objects and to ccache, so both are separated by
    /// origin: the build of one untrusted series must not influence another one.
    pub fn origin(&self) -> Option<Key> {
        let series = self.overlay.as_ref().and_then(|overlay| overlay.origin.as_ref());
        match (&self.source.origin, series) {
            (None, None) => None,
            (source, series) => {
                let text = |key: Option<&Key>| key.map(|key| key.as_str().to_owned()).unwrap_or_default();
                let key = Key::of("origin 1").field("source", text(source.as_ref()));
                Some(key.field("series", text(series)).finish())
            }
        }
    }

    /// Updates `view` to this tree, with the state of the view beside it.
    ///
    /// # Errors
    /// Those of [`source_view::sync`].
    pub fn sync(&self, view: &Path, state_file: &Path) -> Result<Synced> {
        let overlay = self.overlay.as_ref().map(|overlay| (overlay, overlay.dir.join("files")));
        let overlaid = overlay.as_ref().map(|(overlay, files)| Overlaid {
            files,
            changed: &overlay.changed,
            deleted: &overlay.deleted,
        });
        source_view::sync(view, state_file, &self.source.dir, &self.source.key, overlaid)
    }

    /// The text of a file in the tree; `None` if there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<String>> {
        let has = |paths: &[String]| paths.iter().any(|other| other == path);
        let top = match &self.overlay {
            Some(overlay) if has(&overlay.deleted) => return Ok(None),
            Some(overlay) if has(&overlay.changed) => overlay.dir.join("files"),
            _ => self.source.dir.clone(),
        };
        if beneath::is_file(&top, path) { beneath::read_text(&top, path).map(Some) } else { Ok(None) }
    }
}
