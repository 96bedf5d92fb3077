"""One self-contained page of runs, for a browser without a network."""

from evalkit.report.page.document import Page, PageOptions, figures_of, render

__all__ = ["Page", "PageOptions", "figures_of", "render"]
