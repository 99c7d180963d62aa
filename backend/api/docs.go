package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
	swaggerfiles "github.com/swaggo/files"
	ginswagger "github.com/swaggo/gin-swagger"

	"kvstore/backend/docs"
	"kvstore/internal/problem"
)

//	@title			Versioned key-value store
//	@version		1.0
//	@description	A key-value store that keeps every version of every key.
//	@description
//	@description	`HEAD` works wherever `GET` does: the same status and headers, without a body.
//	@description
//	@description	A key is everything behind the verb in the path, decoded once. Clients may send its slashes as they are, or as `%2F`.
//	@description
//	@description	Every error is `application/problem+json` (RFC 9457); its `code` is stable, and some codes have members of their own.
//	@description	Every answer carries `X-Request-Id`, the same at every hop: that of the request when it has a sane one, else a new one.
//	@license.name	MIT
//	@license.url	https://opensource.org/license/mit
//	@BasePath		/
//
//	@tag.name			entries
//	@tag.description	Write, read and delete the value of a key
//	@tag.name			versions
//	@tag.description	What a key was, what changed, and how to go back or to erase
//	@tag.name			keys
//	@tag.description	Which keys there are
//	@tag.name			watch
//	@tag.description	A stream of what is written
//	@tag.name			statistics
//	@tag.description	Cache and database in numbers
//	@tag.name			operation
//	@tag.description	For supervisors and operators, and this document

// openAPI serves the document that is generated from the annotations.
//
//	@Summary	The OpenAPI document
//	@ID			getOpenAPI
//	@Tags		operation
//	@Produce	json
//	@Success	200	{object}	object
//	@Router		/openapi.json [get]
func (a *API) openAPI(c *gin.Context, _ query) error {
	writeAnswer(c, jsonType, docs.OpenAPI, 0)
	return nil
}

// docsPage serves the page of the Swagger UI.
//
//	@Summary	The Swagger UI of this document
//	@ID			getDocs
//	@Tags		operation
//	@Produce	html
//	@Success	200	{string}	string	"The page"
//	@Router		/docs [get]
func (a *API) docsPage(c *gin.Context, _ query) error {
	writePage(c, "text/html; charset=utf-8", docs.Page)
	return nil
}

// swaggerUI serves the files of the page. The library refuses HEAD, for which a GET does
// as well, since the server sends no body.
//
//	@Summary	The files of the Swagger UI
//	@ID			getDocsFile
//	@Tags		operation
//	@Produce	html
//	@Param		file	path	string	true	"The name of the file"	example(index.html)
//	@Success	200		"The file"
//	@Success	307		"/docs/ leads to the page"
//	@Failure	404		{object}	problem.Problem	"There is no such file (code not_found)"
//	@Router		/docs/{file} [get]
func (a *API) swaggerUI() func(*gin.Context, query) error {
	serve := ginswagger.WrapHandler(swaggerfiles.Handler)
	return func(c *gin.Context, _ query) error {
		switch file := c.Param("file"); {
		case file == "/":
			c.Redirect(http.StatusTemporaryRedirect, "/docs")
		case file == "/index.html":
			writePage(c, "text/html; charset=utf-8", docs.Page)
		case file == "/swagger-initializer.js":
			writePage(c, "text/javascript; charset=utf-8", docs.Script)
		case file == "/doc.json": // where the library would serve a document of its own
			writeAnswer(c, jsonType, docs.OpenAPI, 0)
		case !isFile(c, file):
			return problem.New(http.StatusNotFound, "not_found", "There is no such file; the page is /docs")
		default:
			c.Request.Method = http.MethodGet
			serve(c)
		}
		return nil
	}
}

// pagePolicy lets the page run and load nothing but its own files, and the images that
// Swagger UI has in its style sheet.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func writePage(c *gin.Context, contentType string, body []byte) {
	c.Header("Content-Security-Policy", pagePolicy)
	writeAnswer(c, contentType, body, 0)
}

func isFile(c *gin.Context, name string) bool {
	_, err := swaggerfiles.FS.Stat(c.Request.Context(), name)
	return err == nil
}
