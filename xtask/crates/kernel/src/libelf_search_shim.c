// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Four functions of elfutils that the static libelf of Debian 13 calls, and that no static library there has: they
 * belong to a library that elfutils does not install. libelf keeps the pieces of a file in such a tree that somebody asked
 * for with elf_getdata_rawchunk(), which bpftool never does: there it is made and unmade.
 *
 * Weak, so that a libelf which brings its own is no error.
 */
#define _GNU_SOURCE
#include <search.h>

/* A lock follows in libelf's own, which a program of one thread can do without. */
struct search_tree {
	void *root;
};

typedef int (*compare_fn)(const void *, const void *);

__attribute__((weak)) void *eu_tsearch(const void *key, struct search_tree *tree, compare_fn compare)
{
	return tsearch(key, &tree->root, compare);
}

__attribute__((weak)) void *eu_tdelete(const void *key, struct search_tree *tree, compare_fn compare)
{
	return tdelete(key, &tree->root, compare);
}

__attribute__((weak)) void eu_search_tree_init(struct search_tree *tree)
{
	tree->root = 0;
}

__attribute__((weak)) void eu_search_tree_fini(struct search_tree *tree, void (*free_node)(void *))
{
	tdestroy(tree->root, free_node);
	tree->root = 0;
}
