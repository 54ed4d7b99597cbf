"""The pages for a browser that commands write; each module is loaded when a page is wanted."""
