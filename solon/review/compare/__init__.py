"""What an edit did to the data: two runs, row by row, as figures with intervals and as a page.

from solon.review.compare.rows import compare
from solon.review.compare.page import page

page(compare(Path("runs/before"), Path("runs/after")))
"""
